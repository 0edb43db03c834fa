"""`POST /api/keys/verify`: may this key do that, and what is left? For doors that are not ours (docs/verify.md).

One round trip to Redis for an answer; a second one only where the worker's record was old. No SQL for a known key.
"""

import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson
import structlog

from core.ids import event_id, new_nonce
from gateway.caller import Callers, Refused
from gateway.decisions import (
    Asked,
    Decided,
    Desk,
    allowed,
    facts,
    not_entitled_to,
    refused,
    refused_after,
    standing,
)
from gateway.headers import RawHeaders
from gateway.looks import Looks
from gateway.owners import OwnersShelf, owner_fault
from gateway.problems import NOT_FOUND, method_not_allowed
from gateway.proxy import Receive, Send
from gateway.questions import BadQuestion, Question, invalid, read_question
from gateway.recorder import Recorder
from gateway.routes import RouteEntry
from gateway.snapshot import Catalogue, Followed
from keys.records import KeyRecord
from metering import calls, script_calls
from metering.admission import ATTEMPTS, Target, admission
from metering.answers import INVALID_KEY, LARGER_THAN_LIMIT, METERING_UNAVAILABLE, Refusal
from metering.events import Event
from metering.measuring import Unmeasurable, measure
from metering.scoped import never_fits
from metering.verifying import SOURCE, Charge, Verified, charge_call
from plans.door import Span
from plans.models import Meter

log = structlog.get_logger("gateway")

PATH = "/api/keys/verify"
_HEADERS = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]


class Verifier:
    """Answers questions about keys. One per worker."""

    def __init__(self, catalogue: Catalogue, callers: Callers, shelf: Followed[OwnersShelf]) -> None:
        self.catalogue, self.callers, self.shelf = catalogue, callers, shelf
        self._desk = Desk()
        self.looks = Looks(catalogue, callers, shelf, look_up=self._look_up)

    async def answer(
        self, headers: RawHeaders, method: str, receive: Receive, send: Send, *, recorder: Recorder, request_id: str
    ) -> Refusal | None:  # fmt: skip
        """Answer, or say why this caller or this question is refused. Raises MeteringUnavailable."""
        if refusal := owner_fault(headers, self.shelf):
            return refusal
        if method != "POST":
            return method_not_allowed(("POST",))
        try:
            question = await read_question(headers, receive)
            document = await self._answer(question, recorder, request_id)
        except BadQuestion as error:
            return error.refusal
        if isinstance(document, Refusal):
            return document
        await _send(send, document | {"request_id": request_id}, request_id)
        return None

    async def _answer(
        self, question: Question, recorder: Recorder, request_id: str
    ) -> dict[str, Any] | Refusal:
        if not self.catalogue.is_loaded or not self.shelf.is_loaded:
            return METERING_UNAVAILABLE
        try:
            key_hash, record = await self.callers.identify_key(question.key, question.address)
        except Refused as error:
            return error.refusal if error.refusal.status == 503 else refused(error.refusal)
        asked = self._look_up(question)
        if isinstance(asked, Refusal):
            return refused(asked) | facts(record)
        if not_entitled_to(record, asked, _now_us()):
            try:
                record = await self.callers.at_most_a_second_old(key_hash, record)
            except Refused as error:
                return error.refusal if error.refusal.status == 503 else refused(error.refusal)
            if refusal := not_entitled_to(record, asked, _now_us()):
                if question.charge:
                    _count(recorder, record, refusal)
                return refused(refusal) | facts(record)
        inquiry = _Inquiry(question, asked, key_hash, record, request_id)
        return await inquiry.run(self.callers, recorder, self._desk)

    def _look_up(self, question: Question) -> Asked | Refusal:
        """What the question names, remembered. Raises BadQuestion."""
        q = question
        self._desk.clear_unless(self.catalogue.table, self.shelf.value)
        if q.units is not None:
            return self._find_asked(q)
        name = (q.route, q.product, q.method, q.path, q.meter, q.resource)
        asked = self._desk.asked.get(name)
        if asked is None:
            found = self._find_asked(q)
            if isinstance(found, Refusal):
                return found
            asked = self._desk.asked[name] = found
        return asked

    def _find_asked(self, question: Question) -> Asked | Refusal:
        """What the question names. A path that is not on sale is a refusal, as at the gateway. Raises BadQuestion."""
        if question.path:
            found = self._find_path(question)
            return found if isinstance(found, Refusal) else self._asked(question, found)
        if question.route:
            route = self.catalogue.table.find_by_id(question.route)
            if route is None:
                raise invalid("route", "there is no such route on sale.")
            return self._asked(question, route)
        if question.product and not self.catalogue.table.has_product(question.product):
            raise invalid("product", "there is no such product on sale.")
        return self._asked(question, None)

    def _find_path(self, question: Question) -> RouteEntry | Refusal:
        path = question.path.partition("?")[0]
        match = self.catalogue.table.find(question.method, f"/{question.product}{path}")
        if match is None:
            return NOT_FOUND
        return match.route or method_not_allowed(match.allowed)

    def _asked(self, question: Question, route: RouteEntry | None) -> Asked:
        product = route.product_slug if route else question.product
        meter = self._meter(question, route)
        if meter is None:
            return Asked(Target(0, 0, 0, 0, Decimal(0)), product=product)
        if route is not None and question.units is None and not question.resource:
            return Asked(route.target, meter, route, product)
        properties = {"resource": question.resource} if question.resource else None
        quantity = (
            question.units if question.units is not None else route.target.quantity if route else Decimal(1)
        )
        try:
            sized = measure(meter, quantity=quantity, properties=properties)
        except Unmeasurable as error:
            raise invalid("units", error.code) from None
        ids = (route.target.product_id, route.target.route_id) if route else (0, 0)
        target = Target(*ids, meter.pk, sized.units, sized.quantity)
        return Asked(target, meter, route, product, sized.reason)

    def _meter(self, question: Question, route: RouteEntry | None) -> Meter | None:
        shelf = self.shelf.value
        if route is None and not question.meter:
            return None
        meter = shelf.meters_by_id.get(route.target.meter_id) if route else shelf.meters.get(question.meter)
        if meter is None:
            raise invalid("route" if route else "meter", "there is no such meter that calls can count on.")
        return meter


@dataclass(slots=True)
class _Inquiry:
    """One question on its way through the script."""

    question: Question
    asked: Asked
    key_hash: bytes
    record: KeyRecord
    request_id: str

    async def run(self, callers: Callers, recorder: Recorder, desk: Desk) -> dict[str, Any] | Refusal:
        at_us = time.time_ns() // 1000
        for _ in range(ATTEMPTS):
            span = self.record.span_at(at_us)
            if span is None:
                if refusal := await self._reload(callers):
                    return refusal
                span = self.record.span_at(at_us)
                if span is None:
                    return METERING_UNAVAILABLE
            call, known, is_too_large = self._call(span, desk)
            if is_too_large:
                return refused(LARGER_THAN_LIMIT) | known
            verified = await recorder.engine.run(call)
            match verified.answer:
                case calls.Admitted() | calls.Refused() as answer:
                    return self._document(answer, known, is_known=verified.is_known)
                case calls.Stale(now_us):
                    at_us = now_us
                    if refusal := await self._reload(callers):
                        return refusal
                case calls.WrongSpan(now_us):
                    at_us = now_us
                case calls.NoState():
                    log.error("organization_state_lost", organization=self.record.organization_public_id)
                    return METERING_UNAVAILABLE
        return METERING_UNAVAILABLE

    async def _reload(self, callers: Callers) -> dict[str, Any] | Refusal | None:
        """Read the record again; what it is refused with now, if anything."""
        try:
            record = await callers.reload(self.key_hash)
        except Refused as error:
            return error.refusal
        if record is None or record.revoked:
            return refused(INVALID_KEY)
        self.record = record
        refusal = not_entitled_to(record, self.asked, _now_us())
        return refused(refusal) | facts(record) if refusal else None

    def _call(self, span: Span, desk: Desk) -> tuple[script_calls.Call[Verified], dict[str, Any], bool]:
        """What to ask the script, what is known of the key, and whether no waiting would make it fit."""
        if not self.question.charge:
            prepared = desk.prepare(self.key_hash, self.record, span, self.asked)
            return prepared.call, prepared.facts, prepared.is_too_large
        nonce = new_nonce()
        request = admission(self.record, span, self.asked.target, nonce=nonce)
        call = charge_call(request, Charge(self._event(request, nonce)))
        return call, standing(self.record, span), never_fits(request)

    def _event(self, request: calls.Admission, nonce: int) -> Event:
        target, record = self.asked.target, self.record
        return Event(
            id=event_id(0, nonce), occurred_at_us=0, organization_id=record.organization_id, mode=record.mode,
            meter_id=target.meter_id, period_id=request.period_id, quantity=target.quantity, door=SOURCE,
            reason=self.asked.reason, api_key_id=record.key_id, product_id=target.product_id or None,
            route_id=target.route_id or None, source=SOURCE, external_id=self.question.charge,
            request_id=self.request_id,
            properties={"resource": self.question.resource} if self.question.resource else None,
        )  # fmt: skip

    def _document(self, answer: Decided, known: dict[str, Any], *, is_known: bool) -> dict[str, Any]:
        if isinstance(answer, calls.Refused) and not is_known:
            return refused_after(answer, known, self.asked.meter)
        document = allowed(answer, known, self.asked.meter)
        if self.question.charge:
            document["charge"] = self._charged(answer, is_known=is_known)
        return document

    def _charged(self, answer: Decided, *, is_known: bool) -> dict[str, Any]:
        """What became of the charge; an event's id only where it was made now."""
        charged = {"id": self.question.charge, "known": is_known}
        if is_known or not isinstance(answer, calls.Admitted):
            return charged
        units = f"{self.asked.target.quantity.normalize():f}"
        return charged | {"units": units, "event_id": str(answer.event_id)}


def _now_us() -> int:
    return time.time_ns() // 1000


def _count(recorder: Recorder, record: KeyRecord, refusal: Refusal) -> None:
    recorder.refuse(record.shard, record.organization_id, record.mode, record.key_id, refusal.code)


async def _send(send: Send, document: dict[str, Any], request_id: str) -> None:
    body = orjson.dumps(document)
    headers = [
        *_HEADERS,
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
