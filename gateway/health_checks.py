"""Looks after the servers of all pools, one task in each worker: ends ejections, asks servers whether they are well, reports.

A check goes the way of calls: the same client with the same guard, no redirect followed, and its answer is thrown away.
"""

import asyncio
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import structlog
from redis.exceptions import RedisError

from core.redis import usage_redis_async
from gateway.pool_call import Answered, drop
from gateway.pools import Check, Server, Upstream
from gateway.proxy import Body, UpstreamTimeout, UpstreamUnavailable
from plans.upstream_states import REPORT_SECONDS, ServerSeen, report_commands

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.5
MOST_CHECK_SECONDS = 5.0  # a server that needs longer to say that it is well is not
_JITTER = random.SystemRandom()

Asking = Callable[[Upstream, str, list[tuple[str, str]], float], Awaitable[Answered]]


class HealthChecks:
    """One per worker. `servers` tells which there are now, `ask` sends a GET."""

    def __init__(self, servers: Callable[[], Iterable[Server]], ask: Asking) -> None:
        self._servers, self._ask = servers, ask
        self._redis = usage_redis_async()
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._task: asyncio.Task[None] | None = None
        self._checks: set[asyncio.Task[None]] = set()
        self._reported_at = 0.0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        tasks = [task for task in (self._task, *self._checks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._redis.aclose()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                await self.tick(time.monotonic())
            except Exception as error:  # looking after them must go on whatever one round met
                log.warning("upstream_servers_not_looked_after", error=type(error).__name__)

    async def tick(self, now: float) -> None:
        """One round."""
        servers = list(self._servers())
        for server in servers:
            server.state.tick(now)
            self._check_when_due(server, now)
        if servers and now - self._reported_at >= REPORT_SECONDS:
            self._reported_at = now
            await self._report(servers, now)

    def _check_when_due(self, server: Server, now: float) -> None:
        state, check = server.state, server.check
        if check is None:
            if state.fails_checks:
                state.forget_checks()
            return
        if now < state.next_check_at:
            return
        # Apart from those of other workers, and never again before this one has ended.
        state.next_check_at = now + max(check.seconds * _JITTER.uniform(0.8, 1.2), TICK_SECONDS)
        task = asyncio.create_task(self.check(server, check))
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    async def check(self, server: Server, check: Check) -> None:
        """Ask once and judge."""
        credential = server.upstream.credential if check.with_credential else None
        headers = [("User-Agent", "Farebox-Check/1"), *([credential] if credential else [])]
        seconds = min(MOST_CHECK_SECONDS, max(1.0, check.seconds * 0.8))
        try:
            async with asyncio.timeout(seconds):
                answer = await self._ask(server.upstream, check.path, headers, seconds)
        except UpstreamUnavailable as error:
            server.state.checked("check: no connection" if error.is_untouched else "check: no answer")
        except (TimeoutError, UpstreamTimeout):
            server.state.checked("check: no answer in time")
        else:
            drop(answer)
            is_well = answer.status == check.status
            server.state.checked("" if is_well else f"check: answered {answer.status}")

    async def _report(self, servers: Iterable[Server], now: float) -> None:
        seen = [_seen(server, now) for server in servers]
        with suppress(RedisError):  # staff see older reports, or none; calls do not need them
            for command in report_commands(self._worker, seen, at_s=time.time()):
                await self._redis.execute(*command)


def nobody() -> Body:
    """The body of a request that has none, by a client who stays."""

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    return Body(receive, limit=0)


def _seen(server: Server, now: float) -> ServerSeen:
    state = server.state
    name = "ejected" if state.ejected_until else "unwell" if state.fails_checks else "healthy"
    left = max(0, round(state.ejected_until - now)) if state.ejected_until else 0
    return ServerSeen(server.key, name, left, state.last_error if state.is_out else "", state.open)
