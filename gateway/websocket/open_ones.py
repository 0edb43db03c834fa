"""All open connections of a worker: looked at by turns, told of changes.

Every second one HGET per organization with open connections asks whether its version was raised: a revoked key, a
suspension, another plan. Such connections are admitted anew, or closed (docs/websockets.md). What goes by the clock has
time: a quarter of the connections is looked at each second, so that thousands of quiet ones cost little.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import count

import structlog

from gateway.websocket.relay import FAULT, Relay, refused
from metering.answers import NOT_ON_SALE
from metering.engine import AsyncEngine, MeteringUnavailable

log = structlog.get_logger(__name__)
LOOK_SECONDS = 1.0
TURNS = 4


class OpenOnes:
    """One per worker."""

    def __init__(self) -> None:
        self._relays: dict[Relay, int] = {}  # with its turn
        self._added = 0
        self._task: asyncio.Task[None] | None = None

    def start(self, engine: AsyncEngine, is_on_sale: Callable[[str], bool]) -> None:
        """`is_on_sale` says it of a route's public id."""
        self._task = asyncio.create_task(self._look(engine, is_on_sale))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def add(self, relay: Relay) -> None:
        self._relays[relay] = self._added % TURNS
        self._added += 1

    def discard(self, relay: Relay) -> None:
        self._relays.pop(relay, None)

    def __len__(self) -> int:
        return len(self._relays)

    async def _look(self, engine: AsyncEngine, is_on_sale: Callable[[str], bool]) -> None:
        for second in count():
            await asyncio.sleep(LOOK_SECONDS)
            if not self._relays:
                continue
            at = asyncio.get_running_loop().time()
            for relay in [relay for relay, turn in self._relays.items() if turn == second % TURNS]:
                self._look_at(relay, at, is_on_sale)
            try:
                await self._follow(engine)
            except MeteringUnavailable:
                continue  # nothing is known of changes; what is not renewed ends by itself
            except Exception as error:  # the next second has to come whatever this one met
                log.warning("websockets_not_followed", error=type(error).__name__)

    def _look_at(self, relay: Relay, at: float, is_on_sale: Callable[[str], bool]) -> None:
        try:
            if is_on_sale(relay.meter.call.route.public_id):
                relay.look(at)
            else:
                relay.end(refused(NOT_ON_SALE))
        except Exception:
            log.exception("websocket_not_looked_at", request_id=relay.meter.call.request_id)
            relay.end(FAULT)

    async def _follow(self, engine: AsyncEngine) -> None:
        """Who has changed has to be admitted anew."""
        records = {relay.meter.call.record.organization_id: relay.meter.call.record for relay in self._relays}
        versions = await asyncio.gather(
            *(engine.version(r.shard, r.organization_id) for r in records.values())
        )
        known = dict(zip(records, versions, strict=True))
        for relay in list(self._relays):
            version = known.get(relay.meter.call.record.organization_id)
            if version is not None and version > relay.version:
                relay.go_on()
