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
