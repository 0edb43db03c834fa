"""The gateway against nginx + Lua + Redis: one worker each, the same upstream, the same Redis, the very same script calls.

`gateway_vs_nginx_lua` is against the nginx that keeps the promise that the gateway keeps (the event is settled before the
answer's end leaves), `gateway_vs_nginx_lua_settling_late` against the one that settles in a timer after the answer.
"""

import urllib.request
from contextlib import ExitStack

from benchmarks.kit import Target, sell, serving_gateway, settled_events, sign_up, take_turns, tell, warn
from benchmarks.peer.nginx import PACKAGES, find_nginx, serving_peer, serving_static
from benchmarks.peer.upstream import BODY
from core.clock import now

CHECKED = 100  # calls of which each must leave its event


def measure(seconds: float) -> None:
    """Print the figures; without nginx and its Lua, say so."""
    program = find_nginx()
    if program is None:
        warn(f"gateway_vs_nginx_lua, because nginx with Lua is missing: `apt-get install {PACKAGES}`")
        return
    with ExitStack() as stack:
        targets = _start(stack, program)
        for target in targets[1:]:
            _check(target)
        take_turns(targets, seconds)
        for target in targets:
            target.report()
    _, gateway, promise, late = targets
    for peer in (promise, late):
        goal = "at least 0.75, goal 1.0" if peer is promise else ""
        tell(f"gateway_vs_{peer.name}", gateway.calls / peer.calls, "ratio", digits=3, asked=goal)
        by_cpu = peer.cpu_per_call / gateway.cpu_per_call
        tell(f"gateway_vs_{peer.name}_by_cpu", by_cpu, "ratio", digits=3)


def _start(stack: ExitStack, program: str) -> list[Target]:
    url, upstream = stack.enter_context(serving_static(program))
    sell("static", url)
    key = sign_up("static")
    bearer = {"Authorization": f"Bearer {key}"}
    gateway_url, gateway = stack.enter_context(serving_gateway())
    nginx_url, nginx = stack.enter_context(
        serving_peer(program, upstream_url=url, key=key, slug="static", at=now())
    )
    late_url, late = stack.enter_context(
        serving_peer(program, upstream_url=url, key=key, slug="static", at=now())
    )
    return [
        Target("nginx_upstream", f"{url}/answer", {}, upstream),
        Target("gateway", f"{gateway_url}/static/answer", bearer, gateway),
        Target("nginx_lua", f"{nginx_url}/bench/answer", bearer, nginx),
        Target("nginx_lua_settling_late", f"{late_url}/late/answer", bearer, late),
    ]


def _check(target: Target) -> None:
    """Whoever does not do the work is not compared: the same answer, and an event of every call."""
    before = settled_events()
    for _ in range(CHECKED):
        request = urllib.request.Request(target.url, headers=target.headers)
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert answer.read() == BODY, target.name
            assert answer.headers["X-RateLimit-Remaining"], target.name
    settled = settled_events() - before
    assert settled == CHECKED or target.name.endswith("late"), (target.name, settled)
