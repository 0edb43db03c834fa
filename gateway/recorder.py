"""Settling: every admitted call becomes an event before its answer is complete.

A settle is repeated with the same arguments until Redis answered or 5 s are over; it runs in a task of its own, so that a
client that leaves cannot cut it short. Reservations of long answers are renewed (ENGINE.md, sections 2 and 4).
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

import structlog

from metering.calls import Reservation, Settlement, SettleOutcome
from metering.engine import AsyncEngine, MeteringUnavailable
from metering.prepared import Passed

log = structlog.get_logger(__name__)

SETTLE_SECONDS = 5.0
RETRY_SECONDS = 0.05
RENEW_SECONDS = 15.0
UNRENEWED_SECONDS = 45.0  # after so long without a renewal nothing more is sent: the reservation may be gone


class Told(Protocol):
    """Who is told whether a call is in the stream; must not raise."""

    def __call__(self, *, is_recorded: bool) -> None: ...


class Recorder:
    """Settles calls, renews what is open, counts refusals. One per event loop."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self._open: dict[str, Reservation | Passed] = {}
        self._held_at: dict[str, float] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._endings: set[_Ending] = set()
        self._renewal: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._renewal = asyncio.create_task(self._renew())

    async def stop(self) -> None:
        """Wait for settles under way, then let go."""
        if self._renewal is not None:
            self._renewal.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewal
        while self._tasks or self._endings:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=SETTLE_SECONDS + 1)
            else:
                await asyncio.sleep(RETRY_SECONDS)

    def hold(self, reservation: Reservation | Passed) -> None:
        """Renew this reservation (or that of a prepared call) until it is settled."""
        self._open[reservation.nonce] = reservation
        self._held_at[reservation.nonce] = time.monotonic()

    def holds(self, reservation: Reservation | Passed) -> bool:
        """Whether it was made or renewed lately, so that its units are surely still reserved."""
        return time.monotonic() - self._held_at.get(reservation.nonce, 0.0) < UNRENEWED_SECONDS

    def let_go(self, reservation: Reservation | Passed) -> None:
        """Renew it no more: what was not settled expires and gives its units back."""
        self._open.pop(reservation.nonce, None)
        self._held_at.pop(reservation.nonce, None)

    async def settle(self, settlement: Settlement, unbilled: Callable[[], bytes]) -> bool:
        """Whether the call is in the stream as billed. `unbilled` makes its event with quantity 0, reason `expired`,
        which is written when its reservation had gone and there is no room left."""
        return await asyncio.shield(self._keep(self._settle(settlement, unbilled)))

    def settle_prepared(
        self, passed: Passed, event: bytes, *, is_billed: bool, unbilled: Callable[[], bytes]
    ) -> "asyncio.Future[bool]":
        """As `settle`, for a prepared call: the command leaves with the others of this turn, and the connection sees to its
        end, not a task. Who awaits it may be cancelled."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def tell(*, is_recorded: bool) -> None:
            if not future.done():
                future.set_result(is_recorded)

        self.end_prepared(passed, event, tell, is_billed=is_billed, unbilled=unbilled)
        return future

    def end_prepared(
        self, passed: Passed, event: bytes, told: Told, *, is_billed: bool, unbilled: Callable[[], bytes]
    ) -> None:
        """The same for who does not await it."""
        ending = _Ending(self, passed, event, unbilled, told, is_billed=is_billed)
        self._endings.add(ending)
        self.engine.post(passed.settle_command(event, is_billed=is_billed), ending)

    def refuse(self, shard: int, org_id: int, mode: str, key_id: int, reason: str) -> None:
        """Count a refusal; nobody waits for it."""
        self._keep(self._count(shard, org_id, mode, key_id, reason))

    async def see_through(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this to its end, also when the caller is cancelled meanwhile; a shutdown waits for it."""
        await asyncio.shield(self._keep(work))

    def _keep(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _settle(self, settlement: Settlement, unbilled: Callable[[], bytes]) -> bool:
        deadline = time.monotonic() + SETTLE_SECONDS
        try:
            while True:
                try:
                    settled = await self.engine.settle(settlement)
                except MeteringUnavailable:
                    if time.monotonic() > deadline:
                        log.error("settle_given_up", nonce=settlement.reservation.nonce)
                        return False
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                if settled.outcome == SettleOutcome.EXPIRED and settlement.units:
                    await self.engine.settle(settlement.unbilled(unbilled()))
                return settled.is_recorded
        except MeteringUnavailable:
            return False
        finally:
            self.let_go(settlement.reservation)

    async def _count(self, shard: int, org_id: int, mode: str, key_id: int, reason: str) -> None:
        with suppress(MeteringUnavailable):  # a lost count of refusals is only a count
            await self.engine.record_refusal(shard, org_id, mode, key_id, reason)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            held = [one if isinstance(one, Reservation) else one.reservation for one in self._open.values()]
            if not held:
                continue
            try:
                renewed = await self.engine.renew(held)
            except Exception as error:  # renewal must go on whatever one round met
                log.warning("reservations_not_renewed", count=len(held), error=type(error).__name__)
                continue
            at = time.monotonic()
            for reservation, is_open in zip(held, renewed, strict=True):
                if is_open and reservation.nonce in self._open:
                    self._held_at[reservation.nonce] = at


class _Ending:
    """A settle under way. The connection tells it the reply, whether or not anybody still waits for it; what did not end at
    once is repeated in the general form."""

    __slots__ = ("_event", "_is_billed", "_passed", "_recorder", "_told", "_unbilled")

    def __init__(
        self,
        recorder: Recorder,
        passed: Passed,
        event: bytes,
        unbilled: Callable[[], bytes],
        told: Told,
        *,
        is_billed: bool,
    ) -> None:
        self._recorder, self._passed, self._event = recorder, passed, event
        self._is_billed, self._unbilled, self._told = is_billed, unbilled, told

    def done(self) -> bool:
        return False

    def set_result(self, reply: bytes) -> None:
        if reply.startswith(_RECORDED):
            self._end(is_recorded=True)
        else:
            self._recorder._keep(self._repeat())

    def set_exception(self, error: Exception) -> None:
        self._recorder._keep(self._repeat())

    async def _repeat(self) -> None:
        settlement = self._passed.settlement(self._event, is_billed=self._is_billed)
        is_recorded = False
        try:
            is_recorded = await self._recorder._settle(settlement, self._unbilled)
        finally:
            self._end(is_recorded=is_recorded)

    def _end(self, *, is_recorded: bool) -> None:
        self._recorder._endings.discard(self)
        self._recorder.let_go(self._passed)
        self._told(is_recorded=is_recorded)


_RECORDED = (b"SETTLED", b"DONE")
