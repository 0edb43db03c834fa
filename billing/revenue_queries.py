"""Revenue as it is shown: the subscription log turned into movements, and what finalised statements charged."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db.models import Count, DateTimeField, ExpressionWrapper, F, Q, QuerySet, Sum
from django.db.models.functions import TruncMonth

from billing.models import LineKind, StatementLine, StatementState
from billing.revenue import MonthRevenue, RevenueEvent, next_month, revenue_months
from plans.models import SubscriptionEvent

_LAST_MOMENT = ExpressionWrapper(
    F("statement__ends_at") - timedelta(microseconds=1), output_field=DateTimeField()
)
FIXED = (LineKind.FEE, LineKind.FEE_CREDIT, LineKind.MINIMUM)


@dataclass(frozen=True, slots=True)
class Charged:
    """What statements of one month and currency charged, minor units: recurring fees (with their credits and minimum
    true-ups) beside usage (with write-offs and late adjustments) and credit notes. By the month of a period's last moment."""

    month: date
    currency: str
    fixed_minor: int
    usage_minor: int
    credited_minor: int


@dataclass(frozen=True, slots=True)
class PlanMonth:
    """A plan in one month and currency: who paid for it at the month's end, and what its statements charged."""

    plan_name: str
    customers: int
    mrr_minor: int
    fixed_minor: int
    usage_minor: int


@dataclass(frozen=True, slots=True)
class CustomerMonth:
    """What one customer's statements charged in a month, less credit notes."""

    public_id: str
    name: str
    fixed_minor: int
    usage_minor: int
    total_minor: int


def log_events(*, currency: str = "", until: datetime | None = None) -> Iterable[RevenueEvent]:
    """The log in the order in which it was written: all of it, or of one currency, or before a moment."""
    rows = SubscriptionEvent.objects.order_by("pk")
    if currency:
        rows = rows.filter(currency=currency)
    if until is not None:
        rows = rows.filter(at__lt=until)
    fields = ("organization_id", "kind", "at", "currency", "previous_mrr_minor", "mrr_minor")
    return (RevenueEvent(*row) for row in rows.values_list(*fields).iterator(chunk_size=5_000))


def currencies() -> list[str]:
    """The currencies that customers ever paid in, by name."""
    return sorted(set(SubscriptionEvent.objects.order_by().values_list("currency", flat=True).distinct()))


def first_month() -> date | None:
    """The month in which the log begins."""
    at = SubscriptionEvent.objects.order_by("at").values_list("at", flat=True).first()
    return at.astimezone(UTC).date().replace(day=1) if at else None


def movements(*, first: date, last: date, currency: str) -> list[MonthRevenue]:
    """MRR and its movements for each month from `first` to `last`."""
    events = log_events(currency=currency, until=month_end(last))
    return revenue_months(events, first=first, last=last, currency=currency)


def mrr_by_currency(*, until: datetime) -> dict[str, int]:
    """MRR at a moment, minor units of each currency; currencies without any are left out."""
    rows = SubscriptionEvent.objects.filter(at__lt=until).order_by().values_list("currency")
    sums = rows.annotate(mrr=Sum(F("mrr_minor") - F("previous_mrr_minor")))
    return {currency: mrr for currency, mrr in sums if mrr}


def charged_by_month(*, first: date, last: date, currency: str) -> list[Charged]:
    """Fixed beside usage revenue for each month that has any, from the lines of standing statements."""
    rows = (
        _charged_lines(month_start(first), month_end(last))
        .filter(statement__currency=currency)
        .annotate(month=TruncMonth(_LAST_MOMENT, tzinfo=UTC))
        .values("month", "kind")
        .annotate(amount=Sum("amount_minor"))
        .order_by("month")
    )
    found: dict[date, dict[str, int]] = {}
    for row in rows:
        found.setdefault(row["month"].date(), {})[row["kind"]] = row["amount"]
    return [_charged(month, currency, kinds) for month, kinds in found.items()]


def charged_by_currency(*, month: date) -> dict[str, int]:
    """What standing statements of a month charged, less credit notes, minor units of each currency."""
    lines = _charged_lines(month_start(month), month_end(month)).order_by()
    return dict(lines.values_list("statement__currency").annotate(amount=Sum("amount_minor")))


def plan_months(*, month: date, currency: str) -> list[PlanMonth]:
    """Each plan that anyone paid for in a month, the largest first."""
    present = (
        SubscriptionEvent.objects.filter(currency=currency, at__lt=month_end(month))
        .order_by("organization_id", "-at", "-pk")
        .distinct("organization_id")
    )
    paying = SubscriptionEvent.objects.filter(pk__in=present.values("pk"), mrr_minor__gt=0).order_by()
    mrr = {
        name: (customers, minor)
        for name, customers, minor in paying.values_list("version__plan__name").annotate(
            Count("pk"), Sum("mrr_minor")
        )
    }
    lines = _charged_lines(month_start(month), month_end(month)).filter(statement__currency=currency)
    charged = {
        name: (fixed, usage)
        for name, fixed, usage in lines.order_by()
        .values_list("statement__version__plan__name")
        .annotate(**_kinds())
    }
    rows = [PlanMonth(name, *mrr.get(name, (0, 0)), *charged.get(name, (0, 0))) for name in {*mrr, *charged}]
    return sorted(rows, key=lambda row: (-row.mrr_minor, -row.fixed_minor - row.usage_minor, row.plan_name))


def top_customers(*, month: date, currency: str, limit: int) -> list[CustomerMonth]:
    """Who was charged most in a month."""
    rows = (
        _charged_lines(month_start(month), month_end(month))
        .filter(statement__currency=currency)
        .values_list("statement__organization__public_id", "statement__organization__name")
        .annotate(**_kinds(), total=Sum("amount_minor"))
        .order_by("-total", "statement__organization__name")
    )
    return [CustomerMonth(*row) for row in rows[:limit] if row[-1] > 0]


def month_start(month: date) -> datetime:
    """The first moment of a day's month, UTC."""
    return datetime.combine(month.replace(day=1), time(), UTC)


def month_end(month: date) -> datetime:
    """The first moment after a day's month, UTC."""
    return month_start(next_month(month.replace(day=1)))


def _charged_lines(start: datetime, end: datetime) -> QuerySet[StatementLine]:
    """Lines of standing documents whose period's last moment lies in `[start, end)`: a period's end is no part of it, so
    that one of exactly a calendar month counts in that month."""
    return StatementLine.objects.filter(
        statement__state=StatementState.FINALISED, statement__ends_at__gt=start, statement__ends_at__lte=end
    )


def _kinds() -> dict[str, Any]:
    """Sums of the fixed part and of usage, as `Charged` tells them apart."""
    return {
        "fixed": Sum("amount_minor", filter=Q(kind__in=FIXED), default=0),
        "usage": Sum("amount_minor", filter=~Q(kind__in=(*FIXED, LineKind.CREDIT)), default=0),
    }


def _charged(month: date, currency: str, kinds: dict[str, int]) -> Charged:
    fixed = sum(kinds.get(kind.value, 0) for kind in FIXED)
    credited = kinds.get(LineKind.CREDIT.value, 0)
    return Charged(month, currency, fixed, sum(kinds.values()) - fixed - credited, credited)
