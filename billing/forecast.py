"""Where a period's usage ends if things go on as they do: a range, from the run rate by weekday. Pure, no floats.

Days are UTC. A weekday's rate is the mean of its last `WEEKS` complete days; days that are missing in between count as
zero. The range adds two doubts: days differ from their weekday's mean, which is itself known from few days (for L days
ahead of N seen, the variance is that of a day times L + L * L / N, as for any mean), and the level may drift as it
did from the week before last to the last (the middle of the past lies (L + N) / 2 days from the middle of what is ahead).
`manage.py forecast_backtest` prints how wrong this and the alternatives were on the installation's own history.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from enum import StrEnum

ZERO = Decimal(0)
DAY = timedelta(days=1)
WEEKS = 4
LEAST_DAYS = 7  # fewer have not seen every weekday: the plain run rate is used
NORMAL = Decimal("1.2533")  # mean absolute deviation to standard deviation of a normal distribution
EIGHTY = Decimal("1.2816")  # standard deviations on either side that hold 80 %
DAMPING = Decimal("0.5")
_STEP, _WIDE = (
    Decimal("1.000000000000"),
    Context(prec=60),
)  # quantities have 26 digits before the point, 12 after


class Model(StrEnum):
    RUN_RATE = "run_rate"
    WEEKDAY = "weekday"
    WEIGHTED_WEEKDAY = "weighted_weekday"


CHOSEN = Model.WEIGHTED_WEEKDAY  # the back-test's best: a week ago counts twice as much as two weeks ago


@dataclass(frozen=True, slots=True)
class Forecast:
    """Quantity at the end of the period, in the meter's unit: 80 of 100 should end between `low` and `high`."""

    low: Decimal
    expected: Decimal
    high: Decimal


def forecast(
    days: Mapping[date, Decimal],
    *,
    used: Decimal,
    at: datetime,
    ends_at: datetime,
    model: Model = CHOSEN,
) -> Forecast:
    """`used` of this period until `at`, plus what is to come until `ends_at`; `days` are complete days before `at`,
    also of periods before. Nothing to go by: what is used is all that is expected."""
    history = _window(days, at)
    ahead = shares_ahead(at, ends_at)
    if not history or not ahead:
        return Forecast(used, used, used)
    rates = _rates(history, model)
    to_come = sum((rates[day.weekday()] * share for day, share in ahead), ZERO)
    doubt = _doubt(history, rates, ahead)
    return Forecast(
        (used + max(to_come - doubt, ZERO)).quantize(_STEP, context=_WIDE),
        (used + to_come).quantize(_STEP, context=_WIDE),
        (used + to_come + doubt).quantize(_STEP, context=_WIDE),
    )


def daily_forecast(days: Mapping[date, Decimal], *, at: datetime, ends_at: datetime) -> dict[date, Decimal]:
    """What each UTC day from `at` on is expected to add, today's rest included; empty without history."""
    history = _window(days, at)
    if not history:
        return {}
    rates = _rates(history, CHOSEN)
    return {day: rates[day.weekday()] * share for day, share in shares_ahead(at, ends_at)}


def reaches_at(
    days: Mapping[date, Decimal], *, used: Decimal, limit: Decimal, at: datetime, ends_at: datetime
) -> date | None:
    """The day on which `used` is expected to pass `limit`, or None when it is not before the period's end."""
    history = _window(days, at)
    if used > limit:
        return at.astimezone(UTC).date()
    if not history:
        return None
    rates, total = _rates(history, CHOSEN), used
    for day, share in shares_ahead(at, ends_at):
        total += rates[day.weekday()] * share
        if total > limit:
            return day
    return None


def shares_ahead(at: datetime, ends_at: datetime) -> list[tuple[date, Decimal]]:
    """The UTC days between two moments and how much of each lies between them (1 is a whole day)."""
    start, end = at.astimezone(UTC), ends_at.astimezone(UTC)
    shares = []
    while start < end:
        turn = min(datetime.combine(start.date() + DAY, datetime.min.time(), UTC), end)
        shares.append((start.date(), Decimal((turn - start) // timedelta(microseconds=1)) / 86_400_000_000))
        start = turn
    return shares


def _window(days: Mapping[date, Decimal], at: datetime) -> list[tuple[date, Decimal]]:
    """The last weeks without a hole, oldest first: from the first day with usage on."""
    today = at.astimezone(UTC).date()
    known = [day for day, quantity in days.items() if day < today and quantity]
    if not known:
        return []
    first = max(min(known), today - WEEKS * 7 * DAY)
    return [(first + n * DAY, days.get(first + n * DAY, ZERO)) for n in range((today - first).days)]


def _rates(history: Sequence[tuple[date, Decimal]], model: Model) -> list[Decimal]:
    """Expected quantity of a whole day, by weekday (Monday first)."""
    overall = sum((quantity for _, quantity in history), ZERO) / len(history)
    if model == Model.RUN_RATE or len(history) < LEAST_DAYS:
        return [overall] * 7
    rates = []
    for weekday in range(7):
        same = [quantity for day, quantity in history if day.weekday() == weekday]
        weights = [_weight(age, model) for age in range(len(same) - 1, -1, -1)]
        weighted = sum((q * w for q, w in zip(same, weights, strict=True)), ZERO)
        rates.append(weighted / sum(weights) if same else overall)
    return rates


def _weight(age: int, model: Model) -> Decimal:
    """How much a weekday of `age` weeks ago says: all the same, or half as much a week earlier."""
    return DAMPING**age if model == Model.WEIGHTED_WEEKDAY else Decimal(1)


def _doubt(
    history: Sequence[tuple[date, Decimal]], rates: Sequence[Decimal], ahead: Sequence[tuple[date, Decimal]]
) -> Decimal:
    length, seen = sum((share for _, share in ahead), ZERO), Decimal(len(history))
    misses = [abs(quantity - rates[day.weekday()]) for day, quantity in history]
    spread = sum(misses, ZERO) / len(misses) * NORMAL
    if len(history) < LEAST_DAYS:  # too little seen to trust its evenness
        spread = max(spread, rates[0] / 2)
    else:  # a mean of few values lies closer to them than to the next ones
        weeks = max(seen / 7, Decimal("1.5"))
        spread *= (weeks / (weeks - 1)).sqrt()
    return (
        EIGHTY * spread * (length + length * length / seen).sqrt()
        + _drift(history) * length * (length + seen) / 2
    )


def _drift(history: Sequence[tuple[date, Decimal]]) -> Decimal:
    """By how much a day may differ from the day before it: the last week against the one before."""
    last, before = history[-7:], history[-14:-7]
    if len(before) < 7:
        return ZERO
    return abs(sum((q for _, q in last), ZERO) - sum((q for _, q in before), ZERO)) / 49
