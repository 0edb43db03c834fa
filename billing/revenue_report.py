"""The revenue report of one month and currency, as the staff page, its CSV and the API show it."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.conf import settings

from billing.exchange import ConvertedTotal, convert_total
from billing.revenue import MonthRevenue, next_month
from billing.revenue_queries import (
    Charged,
    CustomerMonth,
    PlanMonth,
    charged_by_currency,
    charged_by_month,
    currencies,
    first_month,
    month_end,
    movements,
    mrr_by_currency,
    plan_months,
    top_customers,
)
from plans.periods import MONTHS_A_YEAR

SHOWN_MONTHS = 12
LONGEST = 120
TOP = 10


@dataclass(frozen=True, slots=True)
class RevenueReport:
    """`months` and `charged` go side by side, the month asked for last. `mrr` and `charges` are that month's sums over all
    currencies, converted for showing only. `is_running`: the month is not over, so its figures are those so far."""

    currency: str
    months: tuple[MonthRevenue, ...]
    charged: tuple[Charged, ...]
    plans: tuple[PlanMonth, ...]
    top: tuple[CustomerMonth, ...]
    mrr: ConvertedTotal
    charges: ConvertedTotal
    is_running: bool

    @property
    def now(self) -> MonthRevenue:
        """The month asked for."""
        return self.months[-1]


@dataclass(frozen=True, slots=True)
class Choices:
    """What can be asked for: months, the newest first, and currencies, the reporting currency first."""

    months: tuple[date, ...]
    currencies: tuple[str, ...]


def revenue_choices(*, at: datetime) -> Choices:
    """Months from the beginning of the log until now; the currencies of its events."""
    last = _month_of(at)
    month, months = min(first_month() or last, last), []
    while month <= last:
        months.append(month)
        month = next_month(month)
    first = settings.REPORTING_CURRENCY
    found = sorted(currencies(), key=lambda one: (one != first, one))
    return Choices(tuple(reversed(months)), tuple(found) or (first,))


def revenue_report(
    *, month: date, currency: str, at: datetime, count: int = SHOWN_MONTHS, top: int = TOP
) -> RevenueReport:
    """`count` months until `month` (its first day) and that month in detail; a fixed number of queries."""
    first = _months_before(month, count - 1)
    over = min(month_end(month), at)
    day = (month_end(month) - timedelta(days=1)).date()
    day = min(day, at.astimezone(UTC).date())
    charged = {row.month: row for row in charged_by_month(first=first, last=month, currency=currency)}
    months = movements(first=first, last=month, currency=currency)
    into = settings.REPORTING_CURRENCY
    return RevenueReport(
        currency=currency,
        months=tuple(months),
        charged=tuple(charged.get(one.month, Charged(one.month, currency, 0, 0, 0)) for one in months),
        plans=tuple(plan_months(month=month, currency=currency)),
        top=tuple(top_customers(month=month, currency=currency, limit=top)),
        mrr=convert_total(mrr_by_currency(until=over), into=into, on=day),
        charges=convert_total(charged_by_currency(month=month), into=into, on=day),
        is_running=month == _month_of(at),
    )


def _month_of(at: datetime) -> date:
    return at.astimezone(UTC).date().replace(day=1)


def _months_before(month: date, count: int) -> date:
    number = month.year * MONTHS_A_YEAR + month.month - 1 - count
    return date(number // MONTHS_A_YEAR, number % MONTHS_A_YEAR + 1, 1)
