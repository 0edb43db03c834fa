"""Monthly recurring revenue and its movements, from the append-only log of subscriptions. Pure: no clock, no database.

Each event of the log moves one organization's MRR from `previous_minor` to `mrr_minor` at one moment; a movement is
classified when it happens and never again, so any past month gives the same figures later. Terms as ChartMogul and
Baremetrics define them: new (first MRR ever), reactivation (MRR after none), expansion, contraction, churn (to none).
Months are calendar months of UTC. Amounts are minor units of one currency; currencies are never added up here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum

from plans.periods import MONTHS_A_YEAR


class Movement(StrEnum):
    NEW = "new"
    EXPANSION = "expansion"
    CONTRACTION = "contraction"
    CHURN = "churn"
    REACTIVATION = "reactivation"


@dataclass(frozen=True, slots=True)
class RevenueEvent:
    """A row of the log as far as revenue is concerned, in the order in which the rows were written."""

    organization_id: int
    kind: str
    at: datetime
    currency: str
    previous_minor: int
    mrr_minor: int


@dataclass(slots=True)
class MonthRevenue:
    """A calendar month of one currency. `start_minor` + new + expansion - contraction - churn + reactivation = `end_minor`."""

    month: date
    currency: str
    start_minor: int
    customers_start: int
    moved_minor: dict[Movement, int] = field(default_factory=lambda: dict.fromkeys(Movement, 0))
    moved_customers: dict[Movement, int] = field(default_factory=lambda: dict.fromkeys(Movement, 0))
    trials_started: int = 0
    trials_converted: int = 0
    unpaid_trials: set[int] = field(
        default_factory=set
    )  # whose trial ended in this month, and who did not pay in it

    @property
    def end_minor(self) -> int:
        m = self.moved_minor
        gained = m[Movement.NEW] + m[Movement.EXPANSION] + m[Movement.REACTIVATION]
        return self.start_minor + gained - m[Movement.CONTRACTION] - m[Movement.CHURN]

    @property
    def customers_end(self) -> int:
        m = self.moved_customers
        return self.customers_start + m[Movement.NEW] + m[Movement.REACTIVATION] - m[Movement.CHURN]

    @property
    def arr_minor(self) -> int:
        """Annual run rate: MRR at the end of the month times twelve."""
        return self.end_minor * MONTHS_A_YEAR

    @property
    def arpu_minor(self) -> Decimal | None:
        """Average revenue per paying customer: MRR at the end divided by paying customers at the end."""
        return Decimal(self.end_minor) / self.customers_end if self.customers_end else None

    @property
    def logo_churn(self) -> Decimal | None:
        """Customers lost in the month divided by paying customers at its start."""
        lost = self.moved_customers[Movement.CHURN]
        return Decimal(lost) / self.customers_start if self.customers_start else None

    @property
    def revenue_churn(self) -> Decimal | None:
        """Gross MRR churn: churn and contraction divided by MRR at the start of the month."""
        lost = self.moved_minor[Movement.CHURN] + self.moved_minor[Movement.CONTRACTION]
        return Decimal(lost) / self.start_minor if self.start_minor else None

    @property
    def net_revenue_churn(self) -> Decimal | None:
        """Churn and contraction less expansion and reactivation, divided by MRR at the start; below zero is growth."""
        m = self.moved_minor
        lost = m[Movement.CHURN] + m[Movement.CONTRACTION] - m[Movement.EXPANSION] - m[Movement.REACTIVATION]
        return Decimal(lost) / self.start_minor if self.start_minor else None

    @property
    def ltv_minor(self) -> Decimal | None:
        """Lifetime value: average revenue per customer divided by logo churn; None in a month that lost nobody."""
        if self.arpu_minor is None or not self.logo_churn:
            return None
        return self.arpu_minor / self.logo_churn

    @property
    def trials_ended(self) -> int:
        """Trials that ended in the month without payment; who paid later, but in the same month, has converted."""
        return len(self.unpaid_trials)

    @property
    def trial_conversion(self) -> Decimal | None:
        """Trials that began to pay in the month divided by those that came to an end in it, either way."""
        over = self.trials_converted + self.trials_ended
        return Decimal(self.trials_converted) / over if over else None


def classify(previous_minor: int, mrr_minor: int, *, had_before: bool) -> Movement | None:
    """What a change of one organization's MRR is called; None when nothing moved."""
    if mrr_minor == previous_minor:
        return None
    if previous_minor == 0:
        return Movement.REACTIVATION if had_before else Movement.NEW
    if mrr_minor == 0:
        return Movement.CHURN
    return Movement.EXPANSION if mrr_minor > previous_minor else Movement.CONTRACTION


def revenue_months(
    events: Iterable[RevenueEvent], *, first: date, last: date, currency: str
) -> list[MonthRevenue]:
    """Each month from `first` to `last` (days of those months), with the movements of one currency."""
    month = MonthRevenue(_first_of(first), currency, 0, 0)
    had: set[int] = set()
    months: list[MonthRevenue] = []
    for event in sorted((e for e in events if e.currency == currency), key=lambda e: e.at):
        moment = event.at.date()
        if _first_of(moment) > _first_of(last):
            break
        while _first_of(moment) > month.month:
            months.append(month)
            month = MonthRevenue(next_month(month.month), currency, month.end_minor, month.customers_end)
        _move(month, event, had, before=moment < _first_of(first))
    while month.month <= _first_of(last):
        months.append(month)
        month = MonthRevenue(next_month(month.month), currency, month.end_minor, month.customers_end)
    return months


def _move(month: MonthRevenue, event: RevenueEvent, had: set[int], *, before: bool) -> None:
    """Count an event in its month; one before the first month only moves where that month starts."""
    kind = classify(event.previous_minor, event.mrr_minor, had_before=event.organization_id in had)
    if event.mrr_minor:
        had.add(event.organization_id)
    difference = event.mrr_minor - event.previous_minor
    if before:
        month.start_minor += difference
        month.customers_start += bool(event.mrr_minor) - bool(event.previous_minor)
        return
    month.trials_started += event.kind == "trial_started"
    if event.kind == "trial_ended":
        month.unpaid_trials.add(event.organization_id)
    elif event.kind == "trial_converted":
        month.trials_converted += 1
        month.unpaid_trials.discard(event.organization_id)
    if kind is not None:
        month.moved_minor[kind] += abs(difference)
        month.moved_customers[kind] += 1


def mrr_at(events: Iterable[RevenueEvent], *, at: datetime) -> dict[tuple[int, str], int]:
    """MRR per (organization, currency) at a moment, minor units; organizations without any are left out."""
    present: dict[tuple[int, str], int] = {}
    for event in events:
        if event.at <= at:
            present[event.organization_id, event.currency] = event.mrr_minor
    return {key: minor for key, minor in present.items() if minor}


def whole_minor(average: Decimal | None) -> int | None:
    """An average in whole minor units, half up."""
    return None if average is None else int(average.to_integral_value(ROUND_HALF_UP))


def rate_text(rate: Decimal | None) -> str | None:
    """A rate as a part of one with four digits, half up: `0.0417`."""
    return None if rate is None else f"{rate.quantize(Decimal('0.0001'), ROUND_HALF_UP):f}"


def _first_of(day: date) -> date:
    return day.replace(day=1)


def next_month(month: date) -> date:
    """The first day of the month after the one that begins on this day."""
    return date(month.year + month.month // MONTHS_A_YEAR, month.month % MONTHS_A_YEAR + 1, 1)
