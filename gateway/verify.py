"""`POST /api/keys/verify`: may this key do that, and what is left? For doors that are not ours (docs/verify.md).

One round trip to Redis for an answer; a second one only where the worker's record was old. No SQL for a known key.
"""

import time
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson
import structlog

from core.clock import from_micros
from core.ids import event_id, new_nonce
from gateway.caller import Callers, Refused
from gateway.followed import Followed, OwnersShelf, owner_fault
from gateway.headers import RawHeaders, encoded
from gateway.problems import NOT_FOUND, method_not_allowed
from gateway.proxy import Receive, Send
from gateway.questions import BadQuestion, Question, invalid, read_question
from gateway.recorder import Recorder
from gateway.routes import RouteEntry, has_dot_segments
from gateway.snapshot import Catalogue
from keys.records import KeyRecord
from metering import calls
from metering.admission import Target, admission, not_entitled
from metering.answers import INVALID_KEY, KEY_EXPIRED, METERING_UNAVAILABLE, Refusal, limited
from metering.events import Event
from metering.measuring import Unmeasurable, measure
from metering.verifying import SOURCE, Charge, Verified, charge_call, look_call
from plans.door import Span
from plans.models import Meter

log = structlog.get_logger("gateway")

PATH = "/api/keys/verify"
Decided = calls.Admitted | calls.Refused
ATTEMPTS = 2  # the second with a newer record, or with the span of Redis' own time


@dataclass(frozen=True, slots=True)
class Asked:
    """What the key shall be used for: the route or product whose scopes and feature count, and the units of a meter."""

    target: Target
    meter: Meter | None = None
    route: RouteEntry | None = None
    product: str = ""
    reason: str = ""


class Verifier:
    """Answers questions about keys. One per worker."""

    def __init__(self, catalogue: Catalogue, callers: Callers, shelf: Followed[OwnersShelf]) -> None:
        self.catalogue, self.callers, self.shelf = catalogue, callers, shelf

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
            return error.refusal if error.refusal.status == 503 else _refused(error.refusal)
        asked = self._find_asked(question)
        if isinstance(asked, Refusal):
            return _refused(asked) | _facts(record)
        try:
            if _not_entitled(record, asked):
                record = await self.callers.at_most_a_second_old(key_hash, record)
        except Refused as error:
            return error.refusal if error.refusal.status == 503 else _refused(error.refusal)
        if refusal := _not_entitled(record, asked):
            if question.charge:
                recorder.refuse(
                    record.shard, record.organization_id, record.mode, record.key_id, refusal.code
                )
            return _refused(refusal) | _facts(record)
        return await _Inquiry(question, asked, key_hash, record, request_id).run(self.callers, recorder)

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
        match = None if has_dot_segments(path) else self.catalogue.table.find(
            question.method, f"/{question.product}{path}"
        )  # fmt: skip
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
    nonce: int = field(default_factory=new_nonce)

    async def run(self, callers: Callers, recorder: Recorder) -> dict[str, Any] | Refusal:
        at_us = time.time_ns() // 1000
        for _ in range(ATTEMPTS):
            span = self.record.span_at(at_us)
            if span is None:
                if refusal := await self._reload(callers):
                    return refusal
                span = self.record.span_at(at_us)
                if span is None:
                    return METERING_UNAVAILABLE
            verified = await recorder.engine.run(self._call(span))
            match verified.answer:
                case calls.Admitted() | calls.Refused() as answer:
                    return self._document(answer, span, is_known=verified.is_known)
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
            return _refused(INVALID_KEY)
        self.record = record
        refusal = _not_entitled(record, self.asked)
        return _refused(refusal) | _facts(record) if refusal else None

    def _call(self, span: Span) -> calls.Call[Verified]:
        request = admission(self.record, span, self.asked.target, nonce=self.nonce)
        if not self.question.charge:
            return look_call(request)
        return charge_call(request, Charge(self._event(request)))

    def _event(self, request: calls.Admission) -> Event:
        target, record = self.asked.target, self.record
        return Event(
            id=event_id(0, self.nonce), occurred_at_us=0, organization_id=record.organization_id, mode=record.mode,
            meter_id=target.meter_id, period_id=request.period_id, quantity=target.quantity, door=SOURCE,
            reason=self.asked.reason, api_key_id=record.key_id, product_id=target.product_id or None,
            route_id=target.route_id or None, source=SOURCE, external_id=self.question.charge,
            request_id=self.request_id,
            properties={"resource": self.question.resource} if self.question.resource else None,
        )  # fmt: skip

    def _document(self, answer: Decided, span: Span, *, is_known: bool) -> dict[str, Any]:
        document: dict[str, Any] = {"allowed": True, "code": "", "status": 200}
        if isinstance(answer, calls.Refused) and not is_known:
            document = _refused(limited(answer))
        document |= _facts(self.record) | {
            "period": {"start": _iso(span.start_us), "end": _iso(span.end_us)},
            "rate_limits": [
                {
                    "window_seconds": w.seconds, "limit": w.limit, "remaining": w.remaining, "reset_seconds": w.reset_s,
                    "of": "key" if w.of_key else "organization",
                }
                for w in answer.windows
            ],
            "usage": self._usage(answer),
            "warning": span.warning,
        }  # fmt: skip
        if self.question.charge and document["allowed"]:
            document["charge"] = self._charged(answer, is_known=is_known)
        return document

    def _usage(self, answer: Decided) -> dict[str, Any] | None:
        meter = self.asked.meter
        if meter is None:
            return None
        quota = answer.quota
        return {
            "meter": meter.slug,
            "used": _in_units(answer.used, meter),
            "quota": _in_units(quota.limit, meter) if quota else None,
            "left": _in_units(quota.remaining, meter) if quota else None,
            "reset_seconds": quota.reset_s if quota else None,
        }

    def _charged(self, answer: Decided, *, is_known: bool) -> dict[str, Any]:
        """What became of the charge; an event's id only where it was made now."""
        charged = {"id": self.question.charge, "known": is_known}
        if is_known or not isinstance(answer, calls.Admitted):
            return charged
        units = f"{self.asked.target.quantity.normalize():f}"
        return charged | {"units": units, "event_id": str(answer.event_id)}


def _not_entitled(record: KeyRecord, asked: Asked) -> Refusal | None:
    """401 or 403 by the record; a question that names no product is about the key alone."""
    at_us = time.time_ns() // 1000
    if not asked.product:
        return KEY_EXPIRED if record.is_expired(at_us) else None
    route = asked.route
    return not_entitled(
        record, product=asked.product, route=route.public_id if route else "",
        feature=route.required_feature if route else "", at_us=at_us,
    )  # fmt: skip


def _refused(refusal: Refusal) -> dict[str, Any]:
    """The decision, with the code, status and words of the gateway's own refusal."""
    retry = next((int(value) for name, value in refusal.headers if name == "Retry-After"), None)
    return {
        "allowed": False, "code": refusal.code, "status": refusal.status, "title": refusal.title,
        "detail": refusal.detail, "retry_after": retry,
    }  # fmt: skip


def _facts(record: KeyRecord) -> dict[str, Any]:
    """Who the key is."""
    return {
        "organization": record.organization_public_id,
        "organization_name": record.organization_name,
        "key": record.key_public_id,
        "key_name": record.key_name,
        "mode": record.mode,
        "plan": record.plan_slug,
        "features": sorted(record.features),
        "scopes": sorted(record.scopes),
        "expires_at": _iso(record.expires_at_us) if record.expires_at_us else None,
    }


def _iso(moment_us: int) -> str:
    return from_micros(moment_us).isoformat()


def _in_units(smallest: int, meter: Meter) -> str:
    return format(Decimal(smallest).scaleb(-meter.decimals), "f")


async def _send(send: Send, document: dict[str, Any], request_id: str) -> None:
    body = orjson.dumps(document)
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Request-Id", request_id),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": encoded(headers)})
    await send({"type": "http.response.body", "body": body})
