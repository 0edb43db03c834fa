"""What the gateway adds to a call at half of its top rate: the difference of paced rounds through it and past it."""

from contextlib import ExitStack
from statistics import median

from benchmarks.kit import (
    ROUNDS,
    forget_calls,
    sell,
    serving_gateway,
    serving_upstream,
    sign_up,
    tell,
    warn,
)
from benchmarks.load import load
from benchmarks.paced import NotKept, Times, paced
from benchmarks.peer.upstream import BODY


def measure(seconds: float) -> None:
    """Print the figures."""
    with ExitStack() as stack:
        upstream_url, _ = stack.enter_context(serving_upstream())
        sell("latency", upstream_url)
        bearer = {"Authorization": f"Bearer {sign_up('latency')}"}
        gateway_url, _ = stack.enter_context(serving_gateway())
        address = f"{gateway_url}/latency/answer"
        load(address, bearer, 1)
        rate = load(address, bearer, seconds).calls / 2
        pairs = []
        for _ in range(ROUNDS):
            forget_calls()
            try:
                bare = paced(f"{upstream_url}/answer", {}, rate=rate, seconds=seconds, ending=BODY)
                pairs.append((bare, paced(address, bearer, rate=rate, seconds=seconds, ending=BODY)))
            except NotKept as why:
                warn(f"a round at half of the top rate ({rate:.0f} calls/s): {why}")
    _report(rate, pairs)


def _report(rate: float, pairs: list[tuple[Times, Times]]) -> None:
    tell("half_rate", rate, "calls/s")
    if not pairs:
        return
    for name, number in (("bare", 0), ("gateway", 1)):
        tell(f"{name}_p50_at_half_rate", median(pair[number].p50 for pair in pairs), "ms", digits=2)
        tell(f"{name}_p99_at_half_rate", median(pair[number].p99 for pair in pairs), "ms", digits=2)
    tell("added_p50_at_half_rate", median(ours.p50 - bare.p50 for bare, ours in pairs), "ms", digits=2)
    added = median(ours.p99 - bare.p99 for bare, ours in pairs)
    tell("added_p99_at_half_rate", added, "ms", digits=2, asked="under 3 ms")
