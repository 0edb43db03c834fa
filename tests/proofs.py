"""`make proofs` (`python -m tests.proofs`): what the gateway promises of budgets, streams, attacks and safety, proved with real
processes; one line of figures each.

`budgets R23` runs only these, `--quick` as briefly as the test suite does. What a line says is what the tests themselves
counted; where anything failed its name follows, and the exit status is 1.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.billing.stripe.figures import Figure, measure
from tests.gateway.attacks import ATTACKS

ROOT = Path(__file__).resolve().parent.parent
GATEWAY = "tests/gateway"
PROVED = (
    Figure(
        "BUDGETS", (f"{GATEWAY}/budgets/test_one_redis.py",),
        "{asked} calls at once against budgets of 100: calls {passed_calls}, tokens {passed_tokens}, money {passed_money} pass over"
        " 4 workers; a worker killed, 3 times: {passed_at_a_death} of 300 pass, {held_by_the_dead} held by the dead given back"
        " within {given_back_s} s in all, {used_in_the_end} of 300 used in the end", 1,
    ),
    Figure(
        "CLUSTER", (f"{GATEWAY}/budgets/test_cluster.py", "tests/core/test_redis_cluster.py"),
        "three nodes, {asked} calls at once against budgets of 100: calls {passed_calls}, tokens {passed_tokens}, money"
        " {passed_money} pass; a worker killed, 3 times: {passed_at_a_death} of 300 pass, {held_by_the_dead} given back,"
        " {used_in_the_end} of 300 used in the end; a node killed: its replica serves after {failover_ms} ms, counted twice"
        " {failover_twice}, acknowledged and lost {failover_lost}", 1,
    ),
    Figure(
        "R15", (f"{GATEWAY}/language/test_cut_everywhere.py",),
        "{client_cuts} streams left by their client and {upstream_cuts} cut by the upstream, at every chunk; usage missing"
        " {usage_none}, zero {usage_zero}, twice {usage_twice} times: billed as the policy says; hung sockets {hung}",
    ),
    Figure(
        "SAFETY", (f"{GATEWAY}/test_safety.py", f"{GATEWAY}/language/test_draining.py"),
        "stopped under load: {drained} calls and streams finished, {lost} lost, {ended} ended by their protocol's error frame;"
        " slow readers {slow_readers}, memory +{slow_kb} kB; secrets in {searched_bytes} bytes of answers and logs: {leaks}",
    ),
    Figure(
        "CHANGES", (f"{GATEWAY}/language/test_changes.py",),
        "{changes} changes, known to all of 4 workers after at most so many ms: revoked key {a_revoked_key_ms}, new key"
        " {a_new_key_ms}, suspension {a_suspension_ms}, cap {a_cap_ms}, route {a_route_ms}, price {a_price_ms}, model"
        " {a_model_ms}", 5,
    ),
)  # fmt: skip
STREAMS = "streams"


def main() -> int:
    is_quick = "--quick" in sys.argv
    wanted = [word.upper() for word in sys.argv[1:] if not word.startswith("-")]
    figures = {figure.name: figure for figure in (*PROVED, *ATTACKS)}
    if unknown := set(wanted) - {*figures, STREAMS.upper()}:
        sys.stderr.write(f"unknown: {', '.join(sorted(unknown))}\n")
        return 2
    is_good = True
    for name, figure in figures.items():
        if not wanted or name in wanted:
            line, passed = measure(figure, None if is_quick else figure.cases)
            sys.stdout.write(f"{name} {line}\n")
            sys.stdout.flush()
            is_good = is_good and passed
    if not wanted or STREAMS.upper() in wanted:
        is_good = _cut_streams("60" if is_quick else "1000") and is_good
    return 0 if is_good else 1


def _cut_streams(count: str) -> bool:
    """Streams cut at random under each policy; the test prints its sums itself."""
    command = [sys.executable, "-m", "tests.gateway.language.cut_streams", count]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, text=True, check=False)
    for line in done.stdout.splitlines():
        if "reservations left" in line:
            sys.stdout.write(f"{STREAMS} {line}\n")
    return done.returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())
