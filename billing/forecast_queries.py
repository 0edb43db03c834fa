"""Forecasts of running periods and their test on periods that are over, from the hourly totals."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from django.db.models import Sum

from accounts.models import Organization
from billing.forecast import WEEKS, ZERO, Forecast, Model, daily_forecast, forecast, reaches_at
from metering.costs import CostRules, cost_rules, rate
from metering.models import UsageTotal
from metering.queries import period_quantities
from plans.models import ADDITIVE, Meter, Period

HISTORY = timedelta(weeks=WEEKS, days=1)
MOMENTS = (Decimal("0.25"), Decimal("0.5"), Decimal("0.75"))  # of a period, where a back-test looks ahead


@dataclass(frozen=True, slots=True)
class PeriodForecast:
    """What a period is expected to cost at its end, minor units of `currency`, and how much of each meter it uses."""

    currency: str
    low_minor: int
    expected_minor: int
    high_minor: int
    meters: dict[str, Forecast]
    passes_included_on: date | None
    daily: dict[str, dict[date, Decimal]]  # by meter, for charts


@dataclass(frozen=True, slots=True)
class Miss:
    """How far one forecast of a period that is over was off, as a share of what was used in the end."""

    model: Model
    error: Decimal
    held: bool  # the truth lay within the range


def daily_quantities(
    organization: Organization, *, meter: Meter, start: datetime, end: datetime
) -> dict[date, Decimal]:
    """Live quantity per UTC day in `[start, end)`; days without usage are left out."""
    found: dict[date, Decimal] = {}
    for hour, quantity in _hours(organization, meter, start, end).items():
        day = hour.astimezone(UTC).date()
        found[day] = found.get(day, ZERO) + quantity
    return found


def period_forecast(organization: Organization, *, period: Period, at: datetime) -> PeriodForecast:
    """The running period's end as a range, each meter by its own history; meters that do not add up stay as they are."""
    used = period_quantities(organization, period=period, mode="live")
    slugs = {meter for meter, _ in used}
    meters = {m.slug: m for m in Meter.objects.filter(slug__in=slugs, aggregation__in=ADDITIVE)}
    found: dict[str, Forecast] = {}
    daily: dict[str, dict[date, Decimal]] = {}
    passes = None
    included = {c.meter.slug: c.included for c in period.version.components.all() if not c.match}
    for slug, meter in meters.items():
        days = daily_quantities(organization, meter=meter, start=at - HISTORY, end=at)
        total = sum((quantity for (name, _), quantity in used.items() if name == slug), ZERO)
        found[slug] = forecast(days, used=total, at=at, ends_at=period.ends_at)
        daily[slug] = daily_forecast(days, at=at, ends_at=period.ends_at)
        if passes is None and slug in included and total <= included[slug]:
            passes = reaches_at(days, used=total, limit=included[slug], at=at, ends_at=period.ends_at)
    rules = cost_rules([period])[0]
    low, expected, high = (_cost(rules, used, found, which) for which in ("low", "expected", "high"))
    return PeriodForecast(
        period.version.currency,
        min(low, expected),
        expected,
        max(high, expected),
        found,
        passes,
        daily,
    )


def back_test(*, at: datetime, model: Model) -> Iterator[Miss]:
    """Forecasts made at each quarter of every period that is over, against what was used in the end."""
    over = Period.objects.filter(ends_at__lte=at, is_trial=False).select_related("organization")
    for period in over.order_by("organization", "starts_at"):
        for meter in Meter.objects.filter(aggregation__in=ADDITIVE):
            hours = _hours(period.organization, meter, period.starts_at - HISTORY, period.ends_at)
            yield from _misses(period, hours, model)


def _misses(period: Period, hours: dict[datetime, Decimal], model: Model) -> Iterator[Miss]:
    truth = _between(hours, period.starts_at, period.ends_at)
    if not truth:
        return
    for share in MOMENTS:
        seconds = int(share * int((period.ends_at - period.starts_at).total_seconds()))
        moment = (period.starts_at + timedelta(seconds=seconds)).replace(minute=0, second=0, microsecond=0)
        days: dict[date, Decimal] = {}
        for hour, quantity in hours.items():
            if hour < moment:
                days[hour.astimezone(UTC).date()] = days.get(hour.astimezone(UTC).date(), ZERO) + quantity
        used = _between(hours, period.starts_at, moment)
        found = forecast(days, used=used, at=moment, ends_at=period.ends_at, model=model)
        yield Miss(model, abs(found.expected - truth) / truth, found.low <= truth <= found.high)


def _between(hours: dict[datetime, Decimal], start: datetime, end: datetime) -> Decimal:
    first = start.replace(minute=0, second=0, microsecond=0)
    return sum((quantity for hour, quantity in hours.items() if first <= hour < end), ZERO)


def _hours(
    organization: Organization, meter: Meter, start: datetime, end: datetime
) -> dict[datetime, Decimal]:
    rows = UsageTotal.objects.for_organization(organization).filter(
        mode="live",
        meter_id=meter.pk,
        hour__gte=start.replace(minute=0, second=0, microsecond=0),
        hour__lt=end,
    )
    return dict(rows.values("hour").annotate(quantity=Sum("sum")).values_list("hour", "quantity"))


def _cost(
    rules: CostRules, used: dict[tuple[str, str], Decimal], found: dict[str, Forecast], which: str
) -> int:
    """The period's cost if each meter ends there; its dimensions keep the shares that they have now."""
    ends = dict(used)
    for (slug, dimension), quantity in used.items():
        if slug in found:
            total = sum((q for (name, _), q in used.items() if name == slug), ZERO)
            ends[slug, dimension] = getattr(found[slug], which) * quantity / total if total else quantity
    return rate(rules, ends).total_minor
