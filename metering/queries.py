"""Reads of the ledger for pages, reports and rating. Quantities are `Decimal` in the meter's unit, times UTC."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.db.models import Aggregate, BigIntegerField, Count, Max, Q, Sum
from django.db.models.functions import TruncDay, TruncHour, TruncMinute

from accounts.models import Organization
from metering.events import CORRECTION, VOID
from metering.models import PeriodTotal, ReasonTotal, RefusalCount, UsageEvent, UsageTotal
from metering.period_usage import Quantities as Quantities
from metering.period_usage import late_since as late_since
from metering.period_usage import period_quantities as period_quantities
from metering.period_usage import period_quantities_at as period_quantities_at
from metering.period_usage import quantities_by_period as quantities_by_period
from plans.models import Meter, Period

ZERO = Decimal(0)


class Percentile(Aggregate):
    """PostgreSQL's discrete median."""

    function = "percentile_disc"
    template = "%(function)s(0.5) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = BigIntegerField()


LIVE_MINUTES = 60
NOT_CALLS = ("ingest", "correct")  # doors that no call came through


@dataclass(frozen=True, slots=True)
class UsagePoint:
    """Usage of one key or route in one step (hour or day) that begins at `at`."""

    at: datetime
    group_id: int
    quantity: Decimal
    calls: int


@dataclass(frozen=True, slots=True)
class MinutePoint:
    """One minute of the live view: calls by outcome, and our own refusals."""

    at: datetime
    billed: int
    unbilled: int
    refused: int


@dataclass(frozen=True, slots=True)
class Unbilled:
    """Calls that were not charged, by reason."""

    reason: str
    calls: int


def period_quantity(organization: Organization, *, period: Period, mode: str, meter: Meter) -> Decimal:
    """Settled quantity of one meter in this period, over all its dimensions."""
    totals = PeriodTotal.objects.for_organization(organization).filter(
        period_id=period.pk, mode=mode, meter_id=meter.pk
    )
    return sum((total.sum for total in totals), ZERO)


def usage_series(
    organization: Organization, *, mode: str, meter: Meter, start: datetime, end: datetime,
    group: str, step: str, zone: ZoneInfo,
) -> list[UsagePoint]:  # fmt: skip
    """Usage in `[start, end)` by `group` ("api_key_id" or "route_id") and `step` ("hour" or "day" of the zone)."""
    truncate = TruncHour("hour", tzinfo=zone) if step == "hour" else TruncDay("hour", tzinfo=zone)
    rows = (
        UsageTotal.objects.for_organization(organization)
        .filter(mode=mode, meter_id=meter.pk, hour__gte=_hour(start), hour__lt=end)
        .annotate(step=truncate)
        .values("step", group)
        .annotate(quantity=Sum("sum"), calls=Sum("count"))
        .order_by("step", group)
    )
    return [UsagePoint(row["step"], row[group], row["quantity"], row["calls"]) for row in rows]


def unbilled_calls(organization: Organization, *, period: Period, mode: str) -> list[Unbilled]:
    """Admitted calls of this period that were not charged, by reason, most frequent first; corrections are no calls."""
    totals = ReasonTotal.objects.for_organization(organization).filter(period_id=period.pk, mode=mode)
    calls = totals.exclude(reason__in=(CORRECTION, VOID)).order_by("-count", "reason")
    return [Unbilled(total.reason, total.count) for total in calls]


def unbilled_count(organization: Organization, *, period: Period, mode: str) -> int:
    """How many admitted calls of this period were not charged."""
    return sum(one.calls for one in unbilled_calls(organization, period=period, mode=mode))


def refusals(organization: Organization, *, mode: str, start: datetime, end: datetime) -> list[Unbilled]:
    """Our own refusals in `[start, end)` by reason: never charged."""
    rows = (
        RefusalCount.objects.for_organization(organization)
        .filter(mode=mode, minute__gte=start.replace(second=0, microsecond=0), minute__lt=end)
        .values("reason")
        .annotate(calls=Sum("count"))
        .order_by("-calls", "reason")
    )
    return [Unbilled(row["reason"], row["calls"]) for row in rows]


def minute_series(organization: Organization, *, mode: str, at: datetime) -> list[MinutePoint]:
    """The last 60 minutes, the present one included, oldest first; empty ones too."""
    last = at.astimezone(UTC).replace(second=0, microsecond=0)
    first = last - timedelta(minutes=LIVE_MINUTES - 1)
    events = (
        UsageEvent.objects.for_organization(organization)
        .filter(mode=mode, occurred_at__gte=first)
        .exclude(door__in=NOT_CALLS)
        .annotate(minute=TruncMinute("occurred_at", tzinfo=UTC))
        .values("minute")
        .annotate(billed=Count("id", filter=Q(reason="")), unbilled=Count("id", filter=~Q(reason="")))
    )
    by_minute = {row["minute"]: (row["billed"], row["unbilled"]) for row in events.order_by()}
    refused = dict(
        RefusalCount.objects.for_organization(organization)
        .filter(mode=mode, minute__gte=first)
        .values("minute")
        .annotate(calls=Sum("count"))
        .values_list("minute", "calls")
    )
    minutes = [first + timedelta(minutes=number) for number in range(LIVE_MINUTES)]
    return [MinutePoint(m, *by_minute.get(m, (0, 0)), refused.get(m, 0)) for m in minutes]


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are meant: None and '' are all. `reason`: `billed`, `unbilled`, or one of the ledger's."""

    start: datetime | None = None
    end: datetime | None = None
    key_id: int | None = None
    route_id: int | None = None
    status_class: int | None = None
    reason: str = ""

    def conditions(self) -> Q:
        given = {
            "occurred_at__gte": self.start,
            "occurred_at__lt": self.end,
            "api_key_id": self.key_id,
            "route_id": self.route_id,
        }
        found = Q(**{name: value for name, value in given.items() if value is not None})
        if self.status_class is not None:
            found &= Q(status__gte=self.status_class * 100, status__lt=self.status_class * 100 + 100)
        if self.reason == "unbilled":
            return found & ~Q(reason="")
        return found & Q(reason="" if self.reason == "billed" else self.reason) if self.reason else found


def latest_events(
    organization: Organization, *, mode: str, limit: int = 10, before: tuple[datetime, str] | None = None,
    narrowed: EventFilter | None = None,
) -> list[UsageEvent]:  # fmt: skip
    """The newest events first; `before` (time and id of the last one seen) turns the page."""
    events = UsageEvent.objects.for_organization(organization).filter(mode=mode)
    if narrowed is not None:
        events = events.filter(narrowed.conditions())
    if before is not None:
        events = events.filter(Q(occurred_at__lt=before[0]) | Q(occurred_at=before[0], id__lt=before[1]))
    return list(events.order_by("-occurred_at", "-id")[:limit])


def corrections_of(event: UsageEvent) -> list[UsageEvent]:
    """The rows that correct this event, oldest first."""
    found = UsageEvent.objects.filter(organization_id=event.organization_id, corrects_id=event.id)
    return list(found.order_by("stored_at", "id"))


def has_only_test_calls(organization: Organization) -> bool:
    """Whether calls were made, and none of them with a live key."""
    totals = PeriodTotal.objects.for_organization(organization).order_by()
    return set(totals.values_list("mode", flat=True).distinct()) == {"test"}


def latest_event_at(organization: Organization) -> datetime | None:
    """When the newest event of any mode occurred, or None before the first call."""
    found = UsageTotal.objects.for_organization(organization).aggregate(at=Max("last_at"))
    at: datetime | None = found["at"]
    return at


def installation_quantity(*, meter_slug: str, start: datetime, end: datetime) -> Decimal:
    """Live quantity of a meter over all customers in the hours of `[start, end)`."""
    rows = UsageTotal.objects.filter(mode="live", hour__gte=_hour(start), hour__lt=end)
    of_meter = rows.filter(meter_id__in=Meter.objects.filter(slug=meter_slug).values("pk"))
    return of_meter.aggregate(quantity=Sum("sum"))["quantity"] or ZERO


@dataclass(frozen=True, slots=True)
class ProductHealth:
    """Calls that reached a product's upstream, those that failed there, and the median duration in microseconds."""

    calls: int
    failed: int
    median_us: int


def product_health(*, start: datetime, end: datetime) -> dict[int, ProductHealth]:
    """Health per product id in `[start, end)`, from the calls of the gateway and the DRF door."""
    rows = (
        UsageEvent.objects.filter(occurred_at__gte=start, occurred_at__lt=end, product_id__gt=0)
        .exclude(door__in=NOT_CALLS)
        .values("product_id")
        .annotate(
            calls=Count("id"),
            failed=Count("id", filter=Q(reason__startswith="upstream")),
            median=Percentile("duration_us"),
        )
    )
    return {
        row["product_id"]: ProductHealth(row["calls"], row["failed"], int(row["median"] or 0)) for row in rows
    }


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
