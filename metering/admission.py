"""From a key's record to a request of the admission script, and what its answer asks of the worker next."""

from dataclasses import dataclass
from decimal import Decimal

from keys.records import KeyRecord
from metering.answers import FEATURE_NOT_IN_PLAN, KEY_EXPIRED, OUT_OF_SCOPE, Refusal
from metering.calls import Admission, Admitted
from metering.events import Event
from metering.scoped import hold_plain
from plans.door import Span

ATTEMPTS = 5  # a record is old again where its customer is changed meanwhile; so many changes in one call are a fault


@dataclass(frozen=True, slots=True)
class Target:
    """What a call counts as. `units` in whole smallest units of the meter, `quantity` the same in the meter's unit."""

    product_id: int
    route_id: int
    meter_id: int
    units: int
    quantity: Decimal


def admission(record: KeyRecord, span: Span, target: Target, *, nonce: int) -> Admission:
    """The request to admit one call of this key in this span."""
    request = Admission(
        shard=record.shard,
        org_id=record.organization_id,
        mode=record.mode,
        version=record.version,
        span_start_us=span.start_us,
        span_end_us=span.end_us,
        period_id=span.period_id,
        quota=span.quota(target.meter_id),
        meter_id=target.meter_id,
        units=target.units,
        windows=record.windows,
        key_id=record.key_id,
        key_windows=record.key_windows,
        nonce=nonce,
        refusal=span.refusal,
        quota_code=span.quota_code,
        concurrency=record.concurrency,
        spend=span.spend,
    )
    if record.limits is None:
        return request
    return hold_plain(request, record.limits, route_id=target.route_id)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an admitted call ended. `reason` '' is billed; anything else is a row of quantity 0."""

    status: int
    reason: str
    duration_us: int
    bytes_in: int = 0
    bytes_out: int = 0


def not_entitled(record: KeyRecord, *, product: str, route: str, feature: str, at_us: int) -> Refusal | None:
    """401 or 403 by what the worker's record says of this route; asked again whenever the record was read again, because
    what was true of the old one (before a rotation, a change of scopes or plan) need not be true of the new one."""
    if record.is_expired(at_us):
        return KEY_EXPIRED
    if not record.may_call(product, route):
        return OUT_OF_SCOPE
    if feature and feature not in record.features:
        return FEATURE_NOT_IN_PLAN
    return None


def billing_reason(status: int, *, bill_client_errors: bool) -> str:
    """Why an upstream's answer is not billed; '' for those that are (2xx, 3xx, and 4xx where the route says so)."""
    if status < 400:
        return ""
    if status < 500:
        return "" if bill_client_errors else "client_error"
    return "upstream_error"


def call_event(
    record: KeyRecord,
    request: Admission,
    target: Target,
    outcome: Outcome,
    *,
    admitted: Admitted,
    door: str,
    request_id: str,
) -> Event:
    """The event of an admitted call; its id and time are the admission's."""
    return Event(
        id=admitted.event_id,
        occurred_at_us=admitted.occurred_at_us,
        organization_id=record.organization_id,
        mode=record.mode,
        meter_id=target.meter_id,
        period_id=request.period_id,
        quantity=Decimal(0) if outcome.reason else target.quantity,
        door=door,
        reason=outcome.reason,
        api_key_id=record.key_id,
        product_id=target.product_id,
        route_id=target.route_id,
        status=outcome.status,
        duration_us=outcome.duration_us,
        bytes_in=outcome.bytes_in,
        bytes_out=outcome.bytes_out,
        request_id=request_id,
    )
