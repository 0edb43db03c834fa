"""A period's quantity, step by step: the hours and the events that made it. Quantities add up exactly at every level."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import Max, Min

from metering import steps_sql as sql
from metering.aggregation import unit_micros
from metering.models import PeriodTotal, UsageEvent, UsageTotal
from plans.models import Aggregation, Meter, Period

ZERO = Decimal(0)
HOUR = timedelta(hours=1)
Cursor = tuple[datetime, UUID]


@dataclass(frozen=True, slots=True)
class Scope:
    """The usage of one meter and some of its dimensions in one period: as of `cut_at` (None: all that is stored). `at` ends
    readings that stand (None: they stand until the period's end)."""

    period: Period
    meter: Meter
    dimensions: tuple[str, ...]
    mode: str = "live"
    cut_at: datetime | None = None
    at: datetime | None = None


class HourStep(NamedTuple):
    """What an hour added to the quantity, and of how many events."""

    hour: datetime
    quantity: Decimal
    events: int


class EventStep(NamedTuple):
    """An event: what it reads, what it added to the quantity, and what had been reached before it. `beside` is the event that a
    correction corrects, else itself."""

    at: datetime
    id: UUID
    reading: Decimal
    quantity: Decimal
    before: Decimal
    beside: UUID

    @property
    def place(self) -> tuple[datetime, UUID, bool, UUID]:
        """What steps are sorted by: time, then a call with its corrections after it."""
        return self.at, self.beside, self.id != self.beside, self.id


def known_dimensions(period: Period, meter: Meter, *, mode: str = "live") -> list[str]:
    """The dimensions that this meter has in a period, with those whose readings were carried over."""
    totals = PeriodTotal.objects.filter(organization_id=period.organization_id, mode=mode, meter_id=meter.pk)
    if meter.aggregation != Aggregation.TIME_WEIGHTED:
        totals = totals.filter(period_id=period.pk)
    return list(totals.order_by("dimension").values_list("dimension", flat=True).distinct())


def hour_steps(scope: Scope) -> list[HourStep]:
    """Every hour with events, oldest first. Sums are read from totals, unless something came after the cut."""
    if scope.meter.is_additive and not _changed_after(scope):
        return [HourStep(*row) for row in _rows(sql.HOURS_OF_TOTALS, _values(scope))]
    bounds = _bounds(scope)
    if bounds is None:
        return []
    statement = sql.hours(scope.meter.aggregation, at_cut=scope.cut_at is not None)
    return [HourStep(*row) for row in _rows(statement, _values(scope) | bounds)]


def event_steps(
    scope: Scope, *, hour: datetime, base: Decimal = ZERO, after: Cursor | None = None, limit: int = 100,
    within: tuple[Decimal, Decimal | None] | None = None, only: UUID | None = None,
) -> list[EventStep]:  # fmt: skip
    """Events of one hour, oldest first, not billed ones included where they add up; `base` is the quantity reached before the
    hour. `after` (time and id) turns the page; `within` keeps those that moved the quantity inside a range."""
    bounds = {"start": hour, "end": hour + HOUR} if scope.meter.is_additive else _bounds(scope)
    if bounds is None:
        return []
    values = _values(scope) | bounds
    values |= {"hour": hour, "base": base, "limit": limit, "only": only}
    values |= {"after_at": after and after[0], "after_id": after and after[1]}
    values["after_beside"] = after and _beside(scope, after)
    values |= {"above": within and within[0], "below": within and within[1]}
    statement = sql.calls(scope.meter.aggregation, at_cut=scope.cut_at is not None)
    return [EventStep(*row) for row in _rows(statement, values)]


def events_of(scope: Scope, steps: Iterable[EventStep]) -> dict[UUID, UsageEvent]:
    """The events of these steps by id; readings that were carried over belong to an earlier period."""
    identifiers = [step.id for step in steps]
    found = UsageEvent.objects.filter(organization_id=scope.period.organization_id, id__in=identifiers)
    return {event.id: event for event in found}


def _beside(scope: Scope, cursor: Cursor) -> UUID:
    rows = UsageEvent.objects.filter(
        organization_id=scope.period.organization_id, id=cursor[1], occurred_at=cursor[0]
    )
    return rows.values_list("corrects_id", flat=True).first() or cursor[1]


def _values(scope: Scope) -> dict[str, Any]:
    period, meter = scope.period, scope.meter
    is_weighted = meter.aggregation == Aggregation.TIME_WEIGHTED
    return {
        "organization": period.organization_id, "mode": scope.mode, "meter": meter.pk, "period": period.pk,
        "periods": [period.pk], "meters": [meter.pk], "dimensions": list(scope.dimensions), "cut": scope.cut_at,
        "at": scope.at, "value": meter.value_property,
        "unit_us": unit_micros(meter.time_unit, period) if is_weighted else 1,
    }  # fmt: skip


def _bounds(scope: Scope) -> dict[str, datetime] | None:
    """The hours between which the period's events lie, also those that came with an odd time; None: there are none."""
    if scope.meter.aggregation == Aggregation.TIME_WEIGHTED:
        return {"start": scope.period.starts_at, "end": scope.period.ends_at}
    hours = UsageTotal.objects.filter(
        organization_id=scope.period.organization_id, mode=scope.mode, meter_id=scope.meter.pk, period_id=scope.period.pk
    ).aggregate(first=Min("hour"), last=Max("hour"))  # fmt: skip
    return {"start": hours["first"], "end": hours["last"] + HOUR} if hours["first"] else None


def _changed_after(scope: Scope) -> bool:
    if scope.cut_at is None:
        return False
    return PeriodTotal.objects.filter(
        organization_id=scope.period.organization_id, mode=scope.mode, meter_id=scope.meter.pk,
        period_id=scope.period.pk, stored_at__gt=scope.cut_at,
    ).exists()  # fmt: skip


def _rows(statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())
