"""Calls made ready once and made often: the gateway's two round trips with all that does not change already packed.

    prepared = desk.find(record, target, at_us) or desk.prepare(record, span, target)
    answer = await prepared.admit(engine)              # a Passed, or what the general form answers with (Refused, Stale, ...)
    head += answer.rate_lines()                        # `ratelimit: ...\r\n` and its neighbours, names in lower case
    event = answer.event(status, duration_us, bytes_in, bytes_out, reason, request_id)
    recorder.hold(answer)                              # a long answer's reservation is renewed, as ever
    is_recorded = await recorder.settle_prepared(answer, event, is_billed=not reason, unbilled=...)

A `PreparedCall` is for all calls of one key in one span on one target through one door. It is equal to the general form
(metering/script_calls.py, metering/events.py, metering/answers.py) byte for byte, since it is cut out of it; the general form
stays for language models, other doors and every case that is not the usual one.
"""

from dataclasses import replace
from typing import Any
from uuid import UUID

from core.ids import event_id, new_nonce
from keys.records import KeyRecord
from metering.admission import Outcome, Target, admission, call_event
from metering.calls import Admission, AdmitAnswer, Admitted, Reservation, Settlement
from metering.engine import AsyncEngine
from metering.prepared_parts import (
    MARK,
    MARK_ID,
    MARK_NUMBER,
    MARK_TEXT,
    MARK_TEXT_VALUE,
    EventText,
    RateLines,
    cut,
    nonce_text,
)
from metering.script_calls import admit_call, admitted_numbers, parse_admission, settle_call
from metering.scripts import script
from plans.door import Span

ROOM = 20_000  # prepared calls of one worker, about 3 kB each
_EVENT_MARK = b"\0event\0"
_EVENT_LENGTH = b"$%d\r\n" % len(_EVENT_MARK)


class PreparedCall:
    """All calls of this key in this span on this target. Raises ValueError as the general form does for numbers that Redis
    could not count exactly."""

    __slots__ = (
        "_admit", "_event", "_numbers", "_rates", "_settle_billed", "_settle_unbilled", "door", "end_us", "record", "request", "span",
        "start_us", "target",
    )  # fmt: skip

    def __init__(self, record: KeyRecord, span: Span, target: Target, *, door: str = "gateway") -> None:
        self.record, self.span, self.target, self.door = record, span, target, door
        self.start_us, self.end_us = span.start_us, span.end_us
        self.request: Admission = admission(record, span, target, nonce=MARK)
        self._admit = cut(admit_call(self.request), MARK_TEXT)
        self._numbers = admitted_numbers(self.request).unpack_from
        self._settle_billed = self._settle_pieces(target.units)
        self._settle_unbilled = self._settle_pieces(0)
        self._event = EventText(self._marked_event(""), self._marked_event(MARK_TEXT_VALUE))
        self._rates = RateLines(self.request, span.warning)

    def _settle_pieces(self, units: int) -> tuple[bytes, ...]:
        call = settle_call(Settlement.of(self.request, units=units, event=_EVENT_MARK))
        *pieces, before, after = cut(call, MARK_TEXT, MARK_TEXT, _EVENT_MARK)
        return *pieces, before.removesuffix(_EVENT_LENGTH), after

    def _marked_event(self, reason: str) -> Any:
        admitted = Admitted(MARK_NUMBER, MARK_ID, "", "", 0, (), None)
        outcome = Outcome(MARK_NUMBER, reason, MARK_NUMBER, MARK_NUMBER, MARK_NUMBER)
        return call_event(
            self.record, self.request, self.target, outcome, admitted=admitted, door=self.door, request_id=MARK_TEXT_VALUE
        )  # fmt: skip

    async def admit(self, engine: AsyncEngine, nonce: int | None = None) -> "Passed | AdmitAnswer":
        """Ask for one call; never `Admitted`, which is a `Passed` here. Raises MeteringUnavailable."""
        if nonce is None:
            nonce = new_nonce()
        return self.read(nonce, await engine.ask(_ADMIT, self.admit_command(nonce)))

    def admit_command(self, nonce: int) -> bytes:
        """The packed admission of a call with this nonce."""
        before, after = self._admit
        return before + nonce_text(nonce) + after

    def read(self, nonce: int, reply: Any) -> "Passed | AdmitAnswer":
        """What a reply of admit.lua says."""
        if type(reply) is bytes:
            return Passed(self, nonce, reply, self._numbers(reply))
        if reply[0] == b"OK":
            return Passed(self, nonce, reply, (reply[1], reply[7], *reply[7 + reply[6] :]))
        return parse_admission(self.with_nonce(nonce), reply)

    def with_nonce(self, nonce: int) -> Admission:
        """The general form of one call."""
        return replace(self.request, nonce=nonce)


class Passed:
    """One admitted call. The general forms of it are made when they are asked for."""

    __slots__ = ("call", "nonce", "number", "numbers", "reply")

    def __init__(self, call: PreparedCall, number: int, reply: Any, numbers: tuple[int, ...]) -> None:
        self.call, self.number, self.reply = call, number, reply
        self.numbers = numbers  # its time, what is used, and per window what remains and when all of it does
        self.nonce = f"{number:x}"  # as reservations are named by it

    @property
    def occurred_at_us(self) -> int:
        """The time of Redis at the admission, which dates the event."""
        return self.numbers[0]

    def rate_lines(self) -> bytes:
        """Lines of an answer's head that say what is left (`Farebox-Warning` among them), each with its end."""
        return self.call._rates.write(self.numbers)

    def rate_headers(self) -> list[tuple[bytes, bytes]]:
        """The same as ASGI has headers."""
        lines = self.rate_lines().split(b"\r\n")[:-1]
        return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]

    def event(
        self, status: int, duration_us: int, bytes_in: int, bytes_out: int, reason: str, request_id: str
    ) -> bytes:
        """The call's event as JSON; `reason` '' is billed, else its quantity is 0."""
        return self.call._event.write(
            self.numbers[0], self.number, status, duration_us, bytes_in, bytes_out, reason, request_id
        )

    def settle_command(self, event: bytes, *, is_billed: bool) -> bytes:
        """The packed settle: at the target's units, or at none."""
        call, name = self.call, self.nonce.encode()
        first, second, third, last = call._settle_billed if is_billed else call._settle_unbilled
        return b"".join((first, name, second, name, third, b"$%d\r\n" % len(event), event, last))

    def settlement(self, event: bytes, *, is_billed: bool) -> Settlement:
        """The same in the general form, for repeating it."""
        units = self.call.target.units if is_billed else 0
        return Settlement.of(self.request, units=units, event=event)

    @property
    def request(self) -> Admission:
        return self.call.with_nonce(self.number)

    @property
    def reservation(self) -> Reservation:
        return self.request.reservation

    @property
    def answer(self) -> Admitted:
        """The general form's answer."""
        answer = parse_admission(self.request, self.reply)
        if not isinstance(answer, Admitted):
            raise TypeError("a reply that admits")
        return answer

    @property
    def event_id(self) -> UUID:
        return event_id(self.occurred_at_us, self.number)


class PreparedCalls:
    """The prepared calls of one worker and one door. Bounded; one whose record, span or target was replaced is not found."""

    def __init__(self, *, door: str = "gateway", room: int = ROOM) -> None:
        self._door, self._room = door, room
        self._calls: dict[tuple[int, int], PreparedCall] = {}

    def find(self, record: KeyRecord, target: Target, at_us: int) -> PreparedCall | None:
        """What was prepared for calls of this key on this target at this moment."""
        found = self._calls.get((record.key_id, target.route_id))
        if (
            found is not None
            and found.record is record
            and found.target is target
            and found.start_us <= at_us < found.end_us
        ):
            return found
        return None

    def prepare(self, record: KeyRecord, span: Span, target: Target) -> PreparedCall:
        """Make them ready, in the place of what was there; who came first leaves when the room is full."""
        calls, name = self._calls, (record.key_id, target.route_id)
        calls.pop(name, None)
        while len(calls) >= self._room:
            del calls[next(iter(calls))]
        made = calls[name] = PreparedCall(record, span, target, door=self._door)
        return made


_ADMIT = script("admit")
