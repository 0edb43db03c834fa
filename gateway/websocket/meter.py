"""What a connection is charged: its admissions one after the other, each a part of the connection.

Nothing is passed on before it is reserved, and reservations live a minute unless they are renewed: a worker that dies
charges nothing that it had not settled, and what it held comes back. Billed by connection, the units are settled when the
upstream has accepted, before the client is told; a reservation of nothing then keeps the connection's place among those
that are open. Billed by message, messages are reserved in growing slices and settled part by part.

A part ends after some minutes in which messages were counted, with the period, and whenever the organization or its keys
change: the next one is admitted by what is true then (docs/websockets.md).
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from django.conf import settings

from gateway.call import Call, CallRefused, Passed, admit, entitlement
from gateway.caller import Callers
from gateway.caller import Refused as CallerRefused
from gateway.problems import NOT_RECORDED
from gateway.recorder import Recorder
from keys.records import KeyRecord
from metering.admission import Outcome, call_event
from metering.answers import METERING_UNAVAILABLE, Refusal, limited
from metering.calls import ANY_NUMBER, NO_QUOTA, Admission, Refused, Reservation, Settlement
from metering.engine import MeteringUnavailable
from metering.scoped import more_of, nothing_more, tokens_of
from plans.models import WebSocketBilling

LEAST_SLICE = 4  # messages that a quiet connection holds back from others
MOST_SLICE = 256  # what a busy one asks for at once
CLOSED = (
    "connection_closed"  # the reason of the row that tells how a connection billed at its beginning ended
)
SWITCHING = 101
WAIT_SECONDS = (
    20.0  # messages wait so long for a Redis that is away, and a last row so long after its connection
)
RETRY_SECONDS = 0.25


@dataclass(slots=True)
class Part:
    """What one admission covers. `reserved` and `counted` are messages."""

    record: KeyRecord
    passed: Passed
    reservation: Reservation
    reserved: int
    bytes_before: tuple[int, int] = (0, 0)
    began_at: float = field(default_factory=time.monotonic)
    is_first: bool = False
    counted: int = 0
    messages_in: int = 0
    messages_out: int = 0

    @property
    def request(self) -> Admission:
        return self.passed.request


class Meter:
    """The charges of one connection."""

    def __init__(self, call: Call, passed: Passed, *, callers: Callers, recorder: Recorder) -> None:
        self.call, self.callers, self.recorder = call, callers, recorder
        self.target = call.route.target
        billing = call.route.websocket
        self.is_by_message = billing != WebSocketBilling.CONNECTION
        self.counts_in = self.is_by_message
        self.counts_out = billing == WebSocketBilling.MESSAGES
        self.bytes_in = self.bytes_out = 0
        self.first_facts: dict[str, Any] = {}  # for the properties of the first row
        self.part = Part(call.record, passed, _reservation(passed), 1, is_first=True)
        self._asking = asyncio.Lock()
        recorder.hold(self.part.reservation)

    # --- messages -----------------------------------------------------------------------------------------------

    def take_now(self, *, is_in: bool) -> bool:
        """Count a message, where one is reserved or it costs nothing; False: reserve first."""
        part = self.part
        if self.counts_in if is_in else self.counts_out:
            if part.counted >= part.reserved or not self.recorder.holds(part.reservation):
                return False
            part.counted += 1
        if is_in:
            part.messages_in += 1
        else:
            part.messages_out += 1
        return True

    def give_back(self, *, is_in: bool) -> None:
        """The message that was just taken could not be passed on."""
        part = self.part
        if self.counts_in if is_in else self.counts_out:
            part.counted -= 1
        if is_in:
            part.messages_in -= 1
        else:
            part.messages_out -= 1

    async def take(self, *, is_in: bool) -> Refusal | None:
        """Count a message, with a reservation of more where it is needed; why not, where that is refused."""
        while not self.take_now(is_in=is_in):
            # Not to be cut short: what Redis has reserved has to be known here.
            if refusal := await asyncio.shield(asyncio.ensure_future(self._make_room())):
                return refusal
        return None

    async def _make_room(self) -> Refusal | None:
        async with self._asking:
            if not self.recorder.holds(self.part.reservation) and (refusal := await self._go_on()):
                return refusal
            if self.part.counted < self.part.reserved:
                return None  # the other direction has just asked
            until = time.monotonic() + WAIT_SECONDS
            while True:
                try:
                    return await self._reserve()
                except MeteringUnavailable:
                    if time.monotonic() >= until:
                        return METERING_UNAVAILABLE
                await asyncio.sleep(RETRY_SECONDS)

    async def _reserve(self) -> Refusal | None:
        """A slice, or where it does not fit any more a single message."""
        part, code, at_us = self.part, "", 0
        for messages in dict.fromkeys((min(MOST_SLICE, max(LEAST_SLICE, part.counted)), 1)):
            units = self.target.units * messages
            more = replace(
                part.request, units=units, windows=(), key_windows=(), weighted=(),
                daily=more_of(part.request, part.record.limits, units),
            )  # fmt: skip
            answer = await self.recorder.engine.extend(
                more, part.reservation, admitted_at_us=part.passed.answer.occurred_at_us
            )
            if answer.is_reserved:
                part.reservation = part.reservation.with_more((*more.charges, *more.daily))
                part.reserved += messages
                self.recorder.hold(part.reservation)
                return None
            code, at_us = answer.code, answer.at_us
            if not code:  # the reservation is gone
                return METERING_UNAVAILABLE
        record = part.record
        self.recorder.refuse(record.shard, record.organization_id, record.mode, record.key_id, code)
        return limited(Refused(code, at_us, 0, 0, (), None))

    # --- parts --------------------------------------------------------------------------------------------------

    def is_due(self) -> bool:
        """Whether the part has to end: by the clock, or because its reservation could not be renewed."""
        part, at_us = self.part, time.time_ns() // 1000
        age = time.monotonic() - part.began_at
        return (
            at_us >= part.request.span_end_us
            or part.record.is_expired(at_us)
            or not self.recorder.holds(part.reservation)
            or (part.counted > 0 and age >= settings.WEBSOCKET_PART_SECONDS)
        )

    async def go_on(self) -> Refusal | None:
        """Begin the next part by what is true now and settle the last one; why not, where the connection has to end."""
        async with self._asking:
            return await self._go_on()

    async def _go_on(self) -> Refusal | None:
        last = self.part
        if refusal := await self._begin():
            return refusal
        await self._end(last)
        return None

    async def _begin(self) -> Refusal | None:
        """Admit the next part with nothing reserved yet. The connection was counted as a call when it was opened."""
        call = self.call
        try:
            if entitlement(call.record, call.route):
                call.record = await self.callers.at_most_a_second_old(call.key_hash, call.record)
            if refusal := entitlement(call.record, call.route):
                return refusal
            passed = await admit(call, self.callers, self.recorder, self._nothing_yet)
        except (CallRefused, CallerRefused) as error:
            return error.refusal
        except MeteringUnavailable:
            return METERING_UNAVAILABLE
        before = self.bytes_in, self.bytes_out
        self.part = Part(call.record, passed, _reservation(passed), 0, before)
        self.recorder.hold(self.part.reservation)
        return None

    def _nothing_yet(self, record: KeyRecord, request: Admission) -> Admission:
        """What was paid for when it was opened is not held against quota and cap once more."""
        request = replace(
            request, units=0, windows=(), key_windows=(), weighted=(), concurrency=ANY_NUMBER,
            daily=nothing_more(request),
        )  # fmt: skip
        return request if self.is_by_message else replace(request, quota=NO_QUOTA, spend=None)

    async def _end(self, part: Part) -> None:
        """A later part in which nothing was counted leaves no row."""
        if part.is_first or part.counted:
            await self._settle(part)
            return
        self.recorder.let_go(part.reservation)
        with suppress(MeteringUnavailable):  # then it expires
            await self.recorder.engine.release(part.reservation)

    # --- rows ---------------------------------------------------------------------------------------------------

    async def bill_opening(self) -> Refusal | None:
        """The upstream has accepted: settle a connection that is billed as one; why it must not be opened."""
        if self.is_by_message:
            return None
        opening = self.part
        if refusal := await self._begin():
            await self._settle(opening, status=refusal.status, reason=refusal.code)
            return refusal
        if await self._settle(opening):
            return None
        await self._end(self.part)
        return NOT_RECORDED

    async def fail(self, status: int, reason: str) -> None:
        """It came to nothing: a row of quantity 0."""
        await self._settle(self.part, status=status, reason=reason)

    async def close(self, facts: dict[str, Any]) -> bool:
        """The last row; `facts` say how the connection ended. False: Redis did not take it, repeat it."""
        async with self._asking:
            return await self._settle(self.part, reason="" if self.is_by_message else CLOSED, facts=facts)

    async def _settle(
        self, part: Part, *, status: int = SWITCHING, reason: str = "", facts: dict[str, Any] | None = None
    ) -> bool:
        """Write the part once. Only the first one is a call, with a status."""
        count = 0 if reason else part.counted if self.is_by_message else 1
        outcome = Outcome(
            status if part.is_first else 0, reason, int((time.monotonic() - part.began_at) * 1_000_000),
            self.bytes_in - part.bytes_before[0], self.bytes_out - part.bytes_before[1],
        )  # fmt: skip
        properties = dict(self.first_facts) if part.is_first else {}
        if part.messages_in or part.messages_out or facts:
            properties |= {
                "messages_in": part.messages_in,
                "messages_out": part.messages_out,
                **(facts or {}),
            }

        def event(ended: Outcome, quantity: Decimal) -> bytes:
            row = call_event(
                part.record, part.request, self.target, ended, admitted=part.passed.answer, door="gateway",
                request_id=self.call.request_id,
            )  # fmt: skip
            return replace(
                row, quantity=quantity, properties=properties or None, status=ended.status or None
            ).to_json()

        units = self.target.units * count
        settlement = replace(
            Settlement.of(
                part.request, units=units, event=event(outcome, self.target.quantity * count),
                at_us=part.passed.answer.occurred_at_us, tokens=tokens_of(part.record.limits, part.request.meter_id, units),
            ),
            reservation=part.reservation,
        )  # fmt: skip
        expired = replace(outcome, reason="expired")
        return await self.recorder.settle(settlement, lambda: event(expired, Decimal(0)))


def _reservation(passed: Passed) -> Reservation:
    return passed.request.reserved_at(passed.answer.occurred_at_us)
