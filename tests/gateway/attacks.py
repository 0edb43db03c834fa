"""`python -m tests.gateway.attacks R21`: attacks on the gateway, one line of figures each; without a name all of them.

Each is a run of pytest with servers of its own; what a line says is what the tests counted. Where anything failed its name
follows, and the exit status is 1.
"""

import sys

from tests.billing.stripe.figures import Figure, measure

HERE = "tests/gateway"
ATTACKS = (
    Figure(
        "R21", (f"{HERE}/test_ssrf_forms.py",),
        "{forms} forms, reached {reached}; {tricks} requests that name an address, reached {by_tricks}",
    ),
    Figure(
        "R23", (f"{HERE}/test_smuggling.py",),
        "{shapes} shapes, accepted {accepted}; {floods} heads of 64 MB or 10,000 lines ended, the slowest of each kind after"
        " {flood_slowest_ms} ms together; {slow_closed}/{slow_heads} slow heads closed within {slow_slowest_ms} ms;"
        " memory +{memory_kb} kB over all of it",
    ),
    Figure(
        "R25", (f"{HERE}/test_key_timing.py",),
        "{pairs} pairs of classes: measurable {measurable}, furthest apart {apart_known_us} us (keys seen before) and"
        " {apart_new_us} us (never seen); 2 ms injected: seen in {injected_seen}; different bodies {different_bodies}",
    ),
)  # fmt: skip


def main() -> int:
    wanted = sys.argv[1:] or [attack.name for attack in ATTACKS]
    known = {attack.name: attack for attack in ATTACKS}
    if unknown := set(wanted) - set(known):
        sys.stderr.write(f"unknown: {', '.join(sorted(unknown))}\n")
        return 2
    is_good = True
    for name in wanted:
        line, passed = measure(known[name], None)
        sys.stdout.write(f"{name} {line}\n")
        sys.stdout.flush()
        is_good = is_good and passed
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
