"""Questions that are asked again and again: who asked, what was named, the script's call and the answer, made ready.

A question is known by its body, byte for byte, and otherwise by what it means. What was made ready from it holds as long as its key's
record, the route table and the owner's shelf are the ones that it was made from, and while the record's span lasts.
"""

import time
from collections.abc import Callable
from typing import Any

import orjson

from core.redis_loop import pack
from gateway.caller import Callers
from gateway.decisions import Asked, allowed, in_units, not_entitled_to, refused_after, standing
from gateway.headers import RawHeaders
from gateway.owners import OwnersShelf, owner_fault
from gateway.questions import BadQuestion, Question, parse_question
from gateway.routes import RouteTable
from gateway.snapshot import Catalogue, Followed
from keys.hashing import digest, is_well_formed
from keys.records import KeyRecord
from metering.admission import admission
from metering.answers import Refusal
from metering.calls import Admission, Admitted, QuotaState, Refused, WindowState
from metering.prepared_parts import MARK_ID, MARK_NUMBER, MARK_TEXT_VALUE, escaped, split_at
from metering.scoped import never_fits
from metering.script_calls import admitted_numbers, window_rules
from metering.verifying import look_call
from plans.door import Span

ROOM = 20_000  # looks of one worker, about 4 kB each
LONGEST_BODY = 1_000  # longer questions are read each time
_OWNERS = 100  # headers that opened the door are remembered


class Look:
    """One question's call, and the text of its answer."""

    __slots__ = (
        "_limits", "_numbers", "_parse", "_quota", "_template", "_units", "asked", "command", "end_us", "key_hash", "known", "record",
        "request", "start_us",
    )  # fmt: skip

    def __init__(
        self, key_hash: bytes, record: KeyRecord, span: Span, asked: Asked, request: Admission, known: dict[str, Any]
    ) -> None:  # fmt: skip
        """`request` is the question's admission, `known` what is said of the key."""
        self.key_hash, self.record, self.asked, self.request, self.known = (
            key_hash,
            record,
            asked,
            request,
            known,
        )
        self.start_us, self.end_us = span.start_us, span.end_us
        if record.expires_at_us is not None:
            self.end_us = min(self.end_us, record.expires_at_us)
        call = look_call(request)
        self.command = pack(("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args))
        self._parse = call.parse
        self._numbers = admitted_numbers(request).unpack_from
        self._limits = [(w.limit, w.weight) for w in window_rules(request)]
        self._quota, self._units = request.quota, request.units
        self._template = self._cut()

    def write(self, reply: bytes, request_id: str) -> bytes:
        """The answer where the call would pass; without the call, which nobody made."""
        numbers, place = self._numbers(reply), 2
        values: list[int | bytes] = []
        for limit, weight in self._limits:
            remaining = numbers[place] + weight
            values += (remaining, 0 if remaining == limit else numbers[place + 1])
            place += 2
        meter = self.asked.meter
        if meter is not None:
            used = numbers[1] - self._units
            values.append(in_units(used, meter).encode())
            if self._quota >= 0:
                reset = -(-(self.request.span_end_us - numbers[0]) // 1_000_000)
                values += (in_units(self._quota - used, meter).encode(), reset)
        return self._template % (*values, request_id.encode())

    def write_unusual(self, reply: Any, request_id: str) -> bytes | None:
        """The answer where it would not, or where the script took its long way; None: ask in the general way."""
        answer, meter = self._parse(reply).answer, self.asked.meter
        if isinstance(answer, Refused):
            document = refused_after(answer, self.known, meter)
        elif isinstance(answer, Admitted):
            document = allowed(answer, self.known, meter)
        else:  # with a newer record, or in another span
            return None
        return orjson.dumps(document | {"request_id": request_id})

    def _cut(self) -> bytes:
        """The answer's text with gaps, cut out of what the general form says of marks."""
        marks, gaps, states = list[bytes](), list[bytes](), []
        for i, w in enumerate(window_rules(self.request)):
            first = MARK_NUMBER - 2 * i
            states.append(
                WindowState(w.seconds, w.limit, first, first - 1, w.code == "key_rate_limited", w.name)
            )
            marks += (b'"remaining":%d' % first, b'"reset_seconds":%d' % (first - 1))
            gaps += (b'"remaining":%d', b'"reset_seconds":%d')
        quota = QuotaState(self._quota, 0, 1) if self._quota >= 0 else None
        answer = Admitted(0, MARK_ID, "", "", 0, tuple(states), quota)
        document = allowed(answer, self.known, self.asked.meter) | {"request_id": MARK_TEXT_VALUE}
        if usage := document["usage"]:
            names = ("used", "left") if quota else ("used",)
            usage |= dict.fromkeys(names, MARK_TEXT_VALUE)
            marks += [b'"%b":"%b"' % (name.encode(), MARK_TEXT_VALUE.encode()) for name in names]
            gaps += [b'"%b":"%%b"' % name.encode() for name in names]
            if quota:
                usage["reset_seconds"] = MARK_NUMBER + 1
                marks.append(b'"reset_seconds":%d' % (MARK_NUMBER + 1))
                gaps.append(b'"reset_seconds":%d')
        marks.append(b'"request_id":"%b"' % MARK_TEXT_VALUE.encode())
        first_piece, *pieces = split_at(orjson.dumps(document), marks)
        template = escaped(first_piece)
        for gap, piece in zip([*gaps, b'"request_id":"%b"'], pieces, strict=True):
            template += gap + escaped(piece)
        return template


LookUp = Callable[[Question], Asked | Refusal]


class Looks:
    """What one worker has made ready: by the bodies of questions, and by what they mean; and the headers of owners that may ask."""

    def __init__(
        self, catalogue: Catalogue, callers: Callers, shelf: Followed[OwnersShelf], *, look_up: LookUp
    ) -> None:
        """`look_up` says what a question names, or raises BadQuestion."""
        self._catalogue, self._callers, self._shelf = catalogue, callers, shelf
        self._look_up = look_up
        self._table: RouteTable | None = None
        self._value: OwnersShelf | None = None
        self._by_body: dict[bytes, Look] = {}
        self._by_meaning: dict[tuple[Any, ...], Look] = {}
        self._owners: set[bytes] = set()

    def find(self, body: bytes) -> Look | None:
        """What is ready for this question, or is made ready now; None for questions that the general way has to answer."""
        self._clear_unless_same()
        at_us = time.time_ns() // 1000
        look = self._by_body.get(body)
        if look is None or not self._holds(look, at_us):
            look = self._make(body, at_us)
            if look is not None and len(body) <= LONGEST_BODY:
                _keep(self._by_body, body, look)
        return look

    def may_ask(self, authorization: bytes) -> bool:
        """Whether this header opens the door for questions; False says nothing."""
        self._clear_unless_same()
        if authorization in self._owners:
            return True
        headers: RawHeaders = [(b"authorization", authorization)]
        if not self._shelf.is_loaded or owner_fault(headers, self._shelf) is not None:
            return False
        if len(self._owners) < _OWNERS:
            self._owners.add(authorization)
        return True

    def _holds(self, look: Look, at_us: int) -> bool:
        is_same = self._callers.find_fresh(look.key_hash) is look.record
        return is_same and look.start_us <= at_us < look.end_us

    def _make(self, body: bytes, at_us: int) -> Look | None:
        if not self._catalogue.is_loaded or not self._shelf.is_loaded:
            return None
        try:
            question = parse_question(body)
            if question.charge or not is_well_formed(question.key):
                return None
            key_hash = digest(question.key)
            record = self._callers.find_fresh(key_hash)
            asked = self._look_up(question)
        except BadQuestion:
            return None
        if record is None or isinstance(asked, Refusal) or not_entitled_to(record, asked, at_us):
            return None
        span = record.span_at(at_us)
        return None if span is None else self._ready(key_hash, record, span, asked, at_us)

    def _ready(self, key_hash: bytes, record: KeyRecord, span: Span, asked: Asked, at_us: int) -> Look | None:
        """Questions that mean the same share what is ready: paths of one route, addresses of many clients."""
        target = asked.target
        meaning = (key_hash, target.route_id, target.meter_id, target.units, asked.product, asked.reason)
        look = self._by_meaning.get(meaning)
        if look is None or not self._holds(look, at_us):
            request = admission(record, span, target, nonce=0)  # nothing is reserved that a nonce would name
            if never_fits(request):
                return None
            look = Look(key_hash, record, span, asked, request, standing(record, span))
            _keep(self._by_meaning, meaning, look)
        return look

    def _clear_unless_same(self) -> None:
        table, value = self._catalogue.value, self._shelf.value
        if table is not self._table or value is not self._value:
            self._table, self._value = table, value
            self._by_body.clear()
            self._by_meaning.clear()
            self._owners.clear()


def _keep(room: dict[Any, Look], name: Any, look: Look) -> None:
    """Put into a bounded room; who came first leaves."""
    if len(room) >= ROOM and name not in room:
        del room[next(iter(room))]
    room[name] = look
