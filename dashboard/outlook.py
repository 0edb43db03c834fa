"""The forecast in words: what the running period comes to, when the included quantity is passed, and what to do about it."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from zoneinfo import ZoneInfo

from accounts.models import Organization
from billing.forecast_queries import PeriodForecast, period_forecast
from core.money import format_money
from dashboard.charts import grouped
from plans.models import Meter, Period


@dataclass(frozen=True, slots=True)
class Outlook:
    """Sentences for the page, and the expected quantity of each coming day for the chart."""

    usage: str
    cost: str
    passes: str
    daily: dict[date, Decimal]


def outlook(
    organization: Organization, *, period: Period, meter: Meter, zone: ZoneInfo, at: datetime
) -> Outlook | None:
    """Of live usage; None when the period is over or nothing was ever called."""
    if not period.starts_at <= at < period.ends_at:
        return None
    found = period_forecast(organization, period=period, at=at)
    expected = found.meters.get(meter.slug)
    if expected is None or not found.daily.get(meter.slug):
        return None
    low, middle, high = (_round(quantity) for quantity in (expected.low, expected.expected, expected.high))
    until = f"{period.ends_at.astimezone(zone):%-d %b}"
    between = f", between {grouped(low)} and {grouped(high)}" if low != high else ""
    return Outlook(
        usage=f"At today's pace about {grouped(middle)} {meter.unit}s until {until}{between}.",
        cost=_cost(found),
        passes=_passes(found),
        daily={day: _round(quantity) for day, quantity in found.daily[meter.slug].items()},
    )


def _cost(found: PeriodForecast) -> str:
    low, middle, high = (
        format_money(minor, found.currency)
        for minor in (found.low_minor, found.expected_minor, found.high_minor)
    )
    return f"This period would cost {middle}" + (f" ({low} to {high})." if low != high else ".")


def _passes(found: PeriodForecast) -> str:
    day = found.passes_included_on
    return f"The included quantity is used up on {day:%-d %b}." if day is not None else ""


def _round(quantity: Decimal) -> Decimal:
    """Three figures that count: a forecast that names single calls would pretend to know them."""
    whole = quantity.quantize(Decimal(1), rounding=ROUND_HALF_UP)
    digits = max(len(str(whole)) - 3, 0)
    return whole.scaleb(-digits).quantize(Decimal(1), rounding=ROUND_HALF_UP).scaleb(digits)
