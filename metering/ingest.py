"""The ingest door: usage that happened elsewhere, reported with an owner key, into the same stream.

Ids given by callers are looked up in the ledger first (one query a batch), then claimed and appended in one script per
shard; whatever slips between the two, the drain finds (ENGINE.md, section 6). A retry of a batch gives duplicates.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
from django.conf import settings
from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from accounts.models import Organization
from core.clock import from_micros, to_micros
from core.ids import event_id, new_nonce
from core.request_id import current_request_id
from metering.calls import TrackedEvent, Verdict, claim_digest, day_name
from metering.engine import Engine, MeteringUnavailable
from metering.events import Event
from metering.measuring import Measure, Unmeasurable, measure
from metering.models import UsageEventKey
from plans.daily_tokens import daily_tokens
from plans.models import CAPPABLE, Aggregation, Meter, Period
from plans.queries import TOKEN_UNITS

SOURCE = "api"
PROPERTIES_BYTES = 2048
engine = Engine()


@dataclass(frozen=True, slots=True)
class Reported:
    """One event as it was reported; `problem` (code, field) when its shape was wrong."""

    idempotency_key: str = ""
    organization: str = ""
    meter: str = ""
    quantity: Decimal | None = None
    unit: str = ""
    occurred_at: datetime | None = None
    mode: str = "live"
    properties: dict[str, Any] | None = None
    time_field: str = "time"  # the name under which the moment was given
    problem: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class EventVerdict:
    """`accepted`, `duplicate`, or `rejected` with a code and the field that it is about."""

    status: str
    code: str = ""
    field: str = ""
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class _Rejected(Exception):
    code: str
    field: str


@dataclass(frozen=True, slots=True)
class _Sized:
    """An event that can be recorded, with its place in the batch."""

    place: int
    shard: int
    event: Event
    tracked: TrackedEvent


class _Books:
    """Organizations, meters and periods that a batch names, read in three queries."""

    def __init__(self, events: Sequence[Reported], at: datetime) -> None:
        named = {e.organization for e in events}
        organizations = Organization.objects.filter(public_id__in=named, archived_at=None)
        self.organizations = {o.public_id: o for o in organizations}
        self.meters = {
            m.slug: m for m in Meter.objects.filter(slug__in={e.meter for e in events}, archived_at=None)
        }
        # Tokens of a day are limited for a few: who they are is only asked where tokens are reported.
        has_tokens = any(meter.unit in TOKEN_UNITS for meter in self.meters.values())
        ids = [organization.pk for organization in self.organizations.values()]
        self.limited_days = set(daily_tokens(ids, at=at)) if has_tokens else set[int]()
        self.periods: dict[int, list[Period]] = defaultdict(list)
        for period in self._periods([min(e.occurred_at or at, at) for e in events]):
            self.periods[period.organization_id].append(period)

    def _periods(self, moments: Sequence[datetime]) -> QuerySet[Period]:
        """Those that the moments can lie in, and the last one that began before them: it may have ended since."""
        begun = Period.objects.filter(organization=OuterRef("organization"), starts_at__lte=min(moments))
        oldest = Subquery(begun.order_by("-starts_at").values("starts_at")[:1])
        return (
            Period.objects.filter(organization__in=self.organizations.values(), starts_at__lte=max(moments))
            .filter(starts_at__gte=Coalesce(oldest, min(moments)))
            .order_by("starts_at")
        )

    def period(self, organization: Organization, at: datetime, time_field: str) -> Period:
        """The period of this time; after the last one's end, the last one. Raises _Rejected before the first."""
        known = [p for p in self.periods[organization.pk] if p.starts_at <= at]
        if not known:
            raise _Rejected("before_subscription", time_field)
        return known[-1]


def track_usage(events: Sequence[Reported], *, at: datetime) -> list[EventVerdict]:
    """Record a batch; a verdict per event, in order. Raises MeteringUnavailable; a retry records what is missing."""
    books = _Books(events, at)
    verdicts: dict[int, EventVerdict] = {}
    sized: list[_Sized] = []
    for place, reported in enumerate(events):
        try:
            sized.append(_size(place, reported, books, at))
        except _Rejected as error:
            verdicts[place] = EventVerdict("rejected", error.code, error.field)
    known = _known(sized)
    verdicts |= {one.place: EventVerdict("duplicate") for one in sized if _id(one) in known}
    verdicts |= _record([one for one in sized if _id(one) not in known])
    return [verdicts[place] for place in range(len(events))]


def _size(place: int, reported: Reported, books: _Books, at: datetime) -> _Sized:
    """The event with its period and whole units. Raises _Rejected."""
    if reported.problem is not None:
        raise _Rejected(*reported.problem)
    organization, meter = books.organizations.get(reported.organization), books.meters.get(reported.meter)
    if organization is None:
        raise _Rejected("unknown_organization", "organization")
    if meter is None:
        raise _Rejected("unknown_meter", "meter")
    occurred_at = _check_time(reported.occurred_at or at, at, reported.time_field)
    _check_properties(reported.properties)
    measured = _measure(reported, meter)
    period = books.period(organization, min(occurred_at, at), reported.time_field)
    event = _event(reported, measured, organization, meter, period, occurred_at, at)
    tracked = TrackedEvent(
        org_id=organization.pk, mode=reported.mode, period_id=period.pk, meter_id=meter.pk,
        units=_counted_units(meter, measured), is_maximum=meter.aggregation == Aggregation.MAX, claim=claim_digest(SOURCE, reported.idempotency_key),
        span_end_us=to_micros(period.ends_at), event=event.to_json(), day=day_name(event.occurred_at_us),
        day_tokens=_day_tokens(organization, meter, measured, event, books, at),
    )  # fmt: skip
    return _Sized(place, organization.shard, event, tracked)


def _event(
    reported: Reported,
    measured: Measure,
    organization: Organization,
    meter: Meter,
    period: Period,
    occurred_at: datetime,
    at: datetime,
) -> Event:
    occurred_us = to_micros(occurred_at)
    return Event(
        id=event_id(occurred_us, new_nonce()),
        occurred_at_us=occurred_us,
        received_at_us=to_micros(at),
        organization_id=organization.pk,
        mode=reported.mode,
        meter_id=meter.pk,
        period_id=period.pk,
        quantity=measured.quantity,
        reason=measured.reason,
        door="ingest",
        source=SOURCE,
        external_id=reported.idempotency_key,
        request_id=current_request_id.get() or None,
        properties=reported.properties or None,
    )


def _check_time(occurred_at: datetime, at: datetime, field: str) -> datetime:
    if occurred_at > at + timedelta(seconds=settings.TRACK_AHEAD_SECONDS):
        raise _Rejected("in_future", field)
    if occurred_at < at - timedelta(days=settings.TRACK_OLDEST_DAYS):
        raise _Rejected("too_old", field)
    return from_micros(to_micros(occurred_at))


def _measure(reported: Reported, meter: Meter) -> Measure:
    try:
        return measure(meter, quantity=reported.quantity, unit=reported.unit, properties=reported.properties)
    except Unmeasurable as error:
        raise _Rejected(error.code, error.field) from None


def _counted_units(meter: Meter, measured: Measure) -> int:
    """Counters are what doors can bound: sums, counts and maxima. Other readings stand in the ledger alone."""
    return measured.units if meter.aggregation in CAPPABLE else 0


def _check_properties(properties: dict[str, Any] | None) -> None:
    """Raises _Rejected for what is too large, and for what JSON can say but the ledger's columns cannot hold."""
    try:
        text = orjson.dumps(properties)
    except TypeError:  # half a surrogate pair, an integer of more than 64 bits, nested too deeply
        raise _Rejected("not_storable", "properties") from None
    if len(text) > PROPERTIES_BYTES:
        raise _Rejected("too_large", "properties")
    if b"\\u0000" in text.replace(b"\\\\", b""):
        raise _Rejected("not_storable", "properties")


def _day_tokens(
    organization: Organization, meter: Meter, measured: Measure, event: Event, books: _Books, at: datetime
) -> int:
    """Tokens that count against the organization's limit of this day; a begun one counts whole. Past days are over."""
    is_today = day_name(event.occurred_at_us) >= day_name(to_micros(at))
    is_limited = organization.pk in books.limited_days and event.mode == "live" and is_today
    if not is_limited or meter.unit not in TOKEN_UNITS or not meter.is_additive:
        return 0
    return int(-(-measured.units // 10**meter.decimals))


def _id(one: _Sized) -> tuple[int, str | None]:
    return one.event.organization_id, one.event.external_id


def _known(sized: Sequence[_Sized]) -> set[tuple[int, str | None]]:
    """Ids of this batch that the ledger has already: one query."""
    if not sized:
        return set()
    found = UsageEventKey.objects.filter(
        organization_id__in={one.event.organization_id for one in sized},
        source=SOURCE,
        external_id__in={one.event.external_id for one in sized},
    )
    return set(found.values_list("organization_id", "external_id"))


def _record(sized: Sequence[_Sized]) -> dict[int, EventVerdict]:
    """Claim and append, shard by shard. Raises MeteringUnavailable."""
    verdicts: dict[int, EventVerdict] = {}
    by_shard: dict[int, list[_Sized]] = defaultdict(list)
    for one in sized:
        by_shard[one.shard].append(one)
    for shard, group in by_shard.items():
        answers = engine.track(shard, [one.tracked for one in group])
        if (
            Verdict.NO_STATE in answers
        ):  # Redis lost a customer: a retry after the rebuild records what is missing
            raise MeteringUnavailable
        for one, answer in zip(group, answers, strict=True):
            verdicts[one.place] = _verdict(one, answer)
    return verdicts


def _verdict(one: _Sized, answer: Verdict) -> EventVerdict:
    if answer == Verdict.ACCEPTED:
        return EventVerdict("accepted", event_id=str(one.event.id))
    if answer == Verdict.DUPLICATE:
        return EventVerdict("duplicate")
    return EventVerdict("rejected", "out_of_range", "quantity")
