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
from metering.queries import Quantities, period_quantities
from plans.models import ADDITIVE, Meter, Period
from plans.queries import find_period

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
    """The running period's end as a range, each meter by its own history, also one that nothing was used of yet; meters
    that do not add up stay as they are."""
    used = period_quantities(organization, period=period, mode="live")
    components = list(period.version.components.select_related("meter").order_by("position", "pk"))
    slugs = dict.fromkeys([*(c.meter.slug for c in components), *(slug for slug, _ in used)])
    meters = {m.slug: m for m in Meter.objects.filter(slug__in=slugs, aggregation__in=ADDITIVE)}
    found: dict[str, Forecast] = {}
    daily: dict[str, dict[date, Decimal]] = {}
    passes = None
    included = {c.meter.slug: c.included for c in components if not c.match and c.included}
    for slug in filter(meters.__contains__, slugs):
        days = daily_quantities(organization, meter=meters[slug], start=at - HISTORY, end=at)
        total = _total(used, slug)
        found[slug] = forecast(days, used=total, at=at, ends_at=period.ends_at)
        daily[slug] = daily_forecast(days, at=at, ends_at=period.ends_at)
        if passes is None and slug in included and total <= included[slug]:
            passes = reaches_at(days, used=total, limit=included[slug], at=at, ends_at=period.ends_at)
    rules, split = cost_rules([period])[0], _split(organization, period, used, found)
    low, expected, high = (_cost(rules, used, split, found, which) for which in ("low", "expected", "high"))
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


def _total(quantities: Quantities, slug: str) -> Decimal:
    return sum((quantity for (name, _), quantity in quantities.items() if name == slug), ZERO)


def _split(
    organization: Organization, period: Period, used: Quantities, found: dict[str, Forecast]
) -> Quantities:
    """How each meter falls on its dimensions: as in this period, or, before anything was used in it, as in the last."""
    fresh = [slug for slug, ends in found.items() if ends.high and not _total(used, slug)]
    split = {key: quantity for key, quantity in used.items() if key[0] not in fresh}
    before = find_period(organization, at=period.starts_at - timedelta(microseconds=1)) if fresh else None
    last = period_quantities(organization, period=before, mode="live") if before else {}
    for slug in fresh:
        has_last = _total(last, slug)
        split |= (
            {key: q for key, q in last.items() if key[0] == slug} if has_last else {(slug, ""): Decimal(1)}
        )
    return split


def _cost(
    rules: CostRules, used: Quantities, split: Quantities, found: dict[str, Forecast], which: str
) -> int:
    """The period's cost if each meter ends there."""
    ends = dict(used)
    for (slug, dimension), quantity in split.items():
        if slug in found and quantity:
            ends[slug, dimension] = getattr(found[slug], which) * quantity / _total(split, slug)
    return rate(rules, ends).total_minor
