"""What a meter's readings come to in a period, for every aggregation; exact decimals, no clock.

Sums and counts add up. The others do not: the maximum; the last reading (the latest, of equal times the greater id); the
number of different values; and the time-weighted sum: each value times the microseconds that it stood, from the value
that was carried over when the period began to the period's end (or to the present), divided by the meter's time unit and
rounded once, half up, to 12 places. A reading stands until the next one of its dimension, over all periods: what ended
has to be reported as 0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from core.clock import to_micros
from plans.models import Period, TimeUnit
from plans.periods import month_bounds

ZERO = Decimal(0)
PLACES = 12
_MICROSECOND = timedelta(microseconds=1)
_FIXED = {
    TimeUnit.HOUR.value: timedelta(hours=1) // _MICROSECOND,
    TimeUnit.DAY.value: timedelta(days=1) // _MICROSECOND,
}


@dataclass(frozen=True, slots=True, order=True)
class Reading:
    """A value from a moment on (microseconds since 1970); `ordinal` orders those of the same moment."""

    at_us: int
    ordinal: str
    value: Decimal


def last(readings: Iterable[Reading]) -> Decimal | None:
    """The latest reading, or None without any."""
    return max(readings).value if (readings := list(readings)) else None


def integral(readings: Sequence[Reading], *, start_us: int, end_us: int, carried: Decimal = ZERO) -> Decimal:
    """Value times microseconds in `[start_us, end_us)`, exact; `carried` stands until the first reading."""
    total, since, value = ZERO, start_us, carried
    for reading in sorted(readings):
        if start_us <= reading.at_us < end_us:
            total += value * (reading.at_us - since)
            since, value = reading.at_us, reading.value
    return total + value * max(end_us - since, 0)


def over_time(value_us: Decimal, unit_us: int) -> Decimal:
    """An integral in units times the time unit: divided once, rounded half up to 12 places, by whole numbers only."""
    scaled = int(value_us.scaleb(PLACES))
    return Decimal((2 * scaled + unit_us) // (2 * unit_us)).scaleb(-PLACES)


def unit_micros(time_unit: str, period: Period) -> int:
    """Microseconds of a meter's time unit; a month is the usage month of this period, also when it was cut short."""
    if time_unit == TimeUnit.MONTH:
        start, end = month_bounds(period.anchor, period.starts_at)
        return to_micros(end) - to_micros(start)
    return _FIXED[time_unit]
