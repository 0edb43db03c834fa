"""The DRF door: guards any Django REST framework view with the same keys, limits and metering as the gateway.

    class Search(MeteredMixin, APIView):
        metered = MeteredRoute("places", "/v1/search")

Authentication finds the key's record, the throttle asks the admission script (one round trip), and the mixin settles
when the answer is rendered and before it leaves (the second). A known key costs no query.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponseBase
from redis.exceptions import RedisError
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from core.clock import now
from core.ids import new_nonce
from core.redis import usage_redis
from core.redis_layout import organization_key
from core.request_id import current_request_id
from keys.authentication import presented_key
from keys.guesses import TooManyGuesses
from keys.hashing import digest, is_well_formed
from keys.record_cache import records
from keys.records import KeyRecord
from metering.admission import ATTEMPTS, Outcome, Target, admission, billing_reason, call_event, not_entitled
from metering.answers import (
    INVALID_KEY,
    KEY_EXPIRED,
    KEY_UNKNOWN_NOW,
    LARGER_THAN_LIMIT,
    METERING_UNAVAILABLE,
    MISSING_KEY,
    NOT_ON_SALE,
    TOO_MANY_UNKNOWN,
    Headers,
    Refusal,
    admitted_headers,
    limited,
)
from metering.calls import Admission, Admitted, NoState, Refused, Settlement, SettleOutcome, Stale, WrongSpan
from metering.engine import Engine, MeteringUnavailable
from metering.scoped import never_fits
from plans.door import smallest_units
from plans.models import Route

SETTLE_SECONDS = 5.0
RETRY_SECONDS = 0.05
ROUTE_SECONDS = 10.0  # a change of a route reaches the DRF door within this time
engine = Engine()


class CallRefused(APIException):
    """A refusal as DRF raises it; `extra_headers` reach the answer."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail, refusal.code)
        self.status_code = refusal.status
        self.title = refusal.title
        self.extra_headers: Headers = refusal.headers


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: stands where DRF has the user."""

    key_hash: bytes
    record: KeyRecord
    is_authenticated: bool = True


@dataclass(frozen=True, slots=True)
class MeteredRoute:
    """The route of the catalogue whose meter, units, feature and billing rule a view follows."""

    product: str
    path: str


@dataclass(frozen=True, slots=True)
class RouteTerms:
    """A route's terms as they were read."""

    target: Target
    product: str
    public_id: str
    required_feature: str
    bill_client_errors: bool


class FareboxKeyAuthentication(BaseAuthentication):
    """An API key as `Authorization: Bearer` or `X-API-Key`. Raises CallRefused (401; 429 for an
    address that guesses; 503 without PostgreSQL)."""

    def authenticate(self, request: Request) -> tuple[Caller, KeyRecord]:
        key = presented_key(request, header="X-API-Key")
        if not key:
            raise CallRefused(MISSING_KEY)
        if not is_well_formed(key):
            raise CallRefused(INVALID_KEY)
        key_hash = digest(key)
        address = BaseThrottle().get_ident(request)
        try:
            record = _record(lambda: records.find(key_hash, at=now(), address=address))
        except TooManyGuesses as error:
            raise CallRefused(TOO_MANY_UNKNOWN) from error
        if record.is_expired(time.time_ns() // 1000):
            _count(record, KEY_EXPIRED)
            raise CallRefused(KEY_EXPIRED)
        return Caller(key_hash, record), record

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="farebox"'


class FareboxThrottle(BaseThrottle):
    """Admission: scope, feature, door, rate limits and quota. Raises CallRefused, never just says no."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        if not isinstance(view, MeteredMixin):
            raise TypeError(f"{type(view).__name__} needs MeteredMixin: what is admitted has to be settled")
        caller = request.user
        if not isinstance(caller, Caller):
            raise CallRefused(MISSING_KEY)
        view.admitted_call = admit(caller, route_terms(view.metered))
        return True


@dataclass(slots=True)
class AdmittedCall:
    """An admitted call that waits for its settling."""

    record: KeyRecord
    terms: RouteTerms
    request: Admission
    answer: Admitted
    headers: Headers
    started_at: float


class MeteredMixin(APIView):
    """Settles the call of a view when its answer is rendered. Put it before APIView."""

    authentication_classes = [FareboxKeyAuthentication]
    throttle_classes = [FareboxThrottle]
    metered: MeteredRoute
    admitted_call: AdmittedCall | None = None

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return super().dispatch(request, *args, **kwargs)
        except Exception:
            if self.admitted_call is not None:
                settle(self.admitted_call, status=500, size=0, bytes_in=0)
            raise

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        answer = super().finalize_response(request, response, *args, **kwargs)
        call = self.admitted_call
        if call is None:
            return answer
        if isinstance(answer, Response):
            answer.render()  # what cannot be rendered is settled by dispatch, as a fault
        self.admitted_call = None
        size = len(answer.content) if hasattr(answer, "content") else 0
        if not settle(call, status=answer.status_code, size=size, bytes_in=_length(request)):
            refused = self.handle_exception(CallRefused(METERING_UNAVAILABLE))
            return super().finalize_response(request, refused, *args, **kwargs)
        for name, value in call.headers:
            answer[name] = value
        return answer


def admit(caller: Caller, terms: RouteTerms) -> AdmittedCall:
    """Ask the script; an outdated record is read again once. Raises CallRefused."""
    record, at_us, nonce, started_at = caller.record, time.time_ns() // 1000, new_nonce(), time.monotonic()
    if _not_entitled(record, terms) is not None:  # a change of plan or scopes opens a route at once
        record = current_record(caller)
    record = _entitled(record, terms)
    for _ in range(ATTEMPTS):
        span = record.span_at(at_us)
        if span is None:
            record = _entitled(_record(lambda: records.reload(caller.key_hash, at=now())), terms)
            span = record.span_at(at_us)
        if span is None:
            break
        request = admission(record, span, terms.target, nonce=nonce)
        if (request.weighted or request.daily) and never_fits(request):
            raise CallRefused(LARGER_THAN_LIMIT)
        match answer := _ask(request):
            case Admitted():
                headers = admitted_headers(answer)
                if span.warning:
                    headers.append(("Farebox-Warning", span.warning))
                return AdmittedCall(record, terms, request, answer, headers, started_at)
            case Refused():
                raise CallRefused(limited(answer))
            case Stale():
                record = _entitled(_record(lambda: records.reload(caller.key_hash, at=now())), terms)
            case WrongSpan():
                at_us = answer.now_us
            case NoState():
                break
    raise CallRefused(METERING_UNAVAILABLE)


def settle(call: AdmittedCall, *, status: int, size: int, bytes_in: int) -> bool:
    """Write the call's event; repeated with the same arguments for 5 s. False: it is not in the stream as billed."""
    reason = billing_reason(status, bill_client_errors=call.terms.bill_client_errors)
    outcome = Outcome(status, reason, int((time.monotonic() - call.started_at) * 1_000_000), bytes_in, size)
    units = 0 if reason else call.terms.target.units
    settlement = Settlement.of(
        call.request, units=units, event=_event(call, outcome), at_us=call.answer.occurred_at_us
    )
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        try:
            settled = engine.settle(settlement)
            break
        except MeteringUnavailable:
            if time.monotonic() > deadline:
                return False
            time.sleep(RETRY_SECONDS)
    if settled.outcome == SettleOutcome.EXPIRED and units:
        expired = Outcome(status, "expired", outcome.duration_us, bytes_in, size)
        with suppress(MeteringUnavailable):  # the answer is refused anyhow; the row only tells why
            engine.settle(settlement.unbilled(_event(call, expired)))
    return settled.is_recorded


class _RouteCache:
    """Terms of routes by name, read again every ROUTE_SECONDS."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._terms: dict[MeteredRoute, tuple[float, RouteTerms]] = {}

    def find(self, named: MeteredRoute) -> RouteTerms:
        with self._lock:
            read_at, terms = self._terms.get(named, (None, None))
        if read_at is not None and terms is not None and time.monotonic() - read_at < ROUTE_SECONDS:
            return terms
        try:
            terms = _read_terms(named)
        except (OperationalError, InterfaceError) as error:
            if terms is None:
                raise CallRefused(KEY_UNKNOWN_NOW) from error
        with self._lock:
            self._terms[named] = (time.monotonic(), terms)
        return terms

    def clear(self) -> None:
        with self._lock:
            self._terms.clear()


_routes = _RouteCache()


def current_record(caller: Caller) -> KeyRecord:
    """The caller's record, read again when Redis knows of a change since: for what is not admitted, and so not told
    that its record is old. Raises CallRefused."""
    record = caller.record
    try:
        known = usage_redis().hget(organization_key(record.shard, record.organization_id), "v")
    except RedisError as error:
        raise CallRefused(METERING_UNAVAILABLE) from error
    if known is None:  # lost, never "nothing used"
        raise CallRefused(METERING_UNAVAILABLE)
    if int(known) > record.version:
        return _record(lambda: records.reload(caller.key_hash, at=now()))
    return record


def route_terms(named: MeteredRoute) -> RouteTerms:
    """The terms of a view's route. Raises CallRefused (404) when the catalogue does not sell it (any more)."""
    return _routes.find(named)


def forget_cached() -> None:
    """Read everything again: for tests that change rows behind the services' back."""
    _routes.clear()
    records.clear()


def _read_terms(named: MeteredRoute) -> RouteTerms:
    on_sale = Route.objects.filter(
        is_active=True, archived_at=None, product__is_active=True, product__archived_at=None
    )
    named_so = on_sale.filter(product__slug=named.product, path=named.path).select_related("meter", "product")
    route = named_so.first()
    if route is None:
        raise CallRefused(NOT_ON_SALE)
    units = smallest_units(route.units, route.meter.decimals)
    target = Target(route.product_id, route.pk, route.meter_id, units, route.units)
    return RouteTerms(
        target, named.product, route.public_id, route.required_feature, route.bill_client_errors
    )


def _record(read: Callable[[], KeyRecord | None]) -> KeyRecord:
    try:
        record = read()
    except (OperationalError, InterfaceError) as error:
        raise CallRefused(KEY_UNKNOWN_NOW) from error
    if record is None or record.revoked:
        raise CallRefused(INVALID_KEY)
    return record


def _not_entitled(record: KeyRecord, terms: RouteTerms) -> Refusal | None:
    return not_entitled(
        record, product=terms.product, route=terms.public_id, feature=terms.required_feature,
        at_us=time.time_ns() // 1000,
    )  # fmt: skip


def _entitled(record: KeyRecord, terms: RouteTerms) -> KeyRecord:
    """The record, if it may call this route. Raises CallRefused, counted."""
    if (refusal := _not_entitled(record, terms)) is not None:
        _count(record, refusal)
        raise CallRefused(refusal)
    return record


def _ask(request: Admission) -> Any:
    try:
        return engine.admit(request)
    except MeteringUnavailable as error:
        raise CallRefused(METERING_UNAVAILABLE) from error


def _count(record: KeyRecord, refusal: Refusal) -> None:
    try:
        engine.record_refusal(record.shard, record.organization_id, record.mode, record.key_id, refusal.code)
    except MeteringUnavailable as error:
        raise CallRefused(METERING_UNAVAILABLE) from error


def _event(call: AdmittedCall, outcome: Outcome) -> bytes:
    return call_event(
        call.record, call.request, call.terms.target, outcome,
        admitted=call.answer, door="drf", request_id=current_request_id.get(),
    ).to_json()  # fmt: skip


def _length(request: Request) -> int:
    length = request.META.get("CONTENT_LENGTH") or "0"
    return int(length) if length.isdigit() else 0
