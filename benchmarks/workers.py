"""Two workers of the gateway against one. On a machine with fewer cores than load, upstream, Redis and two workers need, calls a
second cannot double; calls a second of CPU time say whether the workers stand in each other's way."""

import os
from contextlib import ExitStack

from benchmarks.kit import Target, sell, serving_gateway, serving_upstream, sign_up, take_turns, tell
from benchmarks.load import CONNECTIONS


def measure(seconds: float) -> None:
    """Print the figures."""
    with ExitStack() as stack:
        upstream_url, _ = stack.enter_context(serving_upstream())
        sell("workers", upstream_url)
        bearer = {"Authorization": f"Bearer {sign_up('workers')}"}
        targets = []
        for number in (1, 2):
            url, pid = stack.enter_context(serving_gateway(workers=number))
            target = Target(f"gateway_{number}_workers", f"{url}/workers/answer", bearer, pid)
            target.connections = (
                number * CONNECTIONS
            )  # as many for each worker: the fewer, the less is sent at once
            targets.append(target)
        take_turns(targets, seconds)
    one, two = targets
    for target in targets:
        tell(target.name, target.calls, "calls/s")
        tell(f"{target.name}_per_cpu_second", 1_000_000 / target.cpu_per_call, "calls")
    cores = len(os.sched_getaffinity(0))
    asked = f"at least 1.6 where cores allow; here are {cores}"
    tell("gateway_two_workers_vs_one", two.calls / one.calls, "ratio", digits=2, asked=asked)
    scaling = one.cpu_per_call / two.cpu_per_call
    asked = "0.8, which is 1.6 by two"
    tell("gateway_two_workers_vs_one_by_cpu", scaling, "ratio", digits=2, asked=asked)
