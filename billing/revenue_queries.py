"""Revenue as it is shown: the subscription log turned into movements, and what finalised statements charged."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from django.db.models import Sum
from django.db.models.functions import TruncMonth

from billing.models import LineKind, StatementLine, StatementState
from billing.revenue import MonthRevenue, RevenueEvent, revenue_months
from plans.models import SubscriptionEvent

FIXED = (LineKind.FEE, LineKind.FEE_CREDIT, LineKind.MINIMUM)


@dataclass(frozen=True, slots=True)
class Charged:
    """What statements of one month and currency charged, minor units: recurring fees (with their credits and minimum
    true-ups) beside usage (with write-offs and late adjustments) and credit notes. By the month in which a period ended."""

    month: date
    currency: str
    fixed_minor: int
    usage_minor: int
    credited_minor: int


def log_events() -> Iterable[RevenueEvent]:
    """The whole log in the order in which it was written."""
    rows = SubscriptionEvent.objects.order_by("pk").values_list(
        "organization_id", "kind", "at", "currency", "previous_mrr_minor", "mrr_minor"
    )
    return (RevenueEvent(*row) for row in rows.iterator(chunk_size=5_000))


def currencies() -> list[str]:
    """The currencies that customers ever paid in, by name."""
    return sorted(set(SubscriptionEvent.objects.order_by().values_list("currency", flat=True).distinct()))


def movements(*, first: date, last: date, currency: str) -> list[MonthRevenue]:
    """MRR and its movements for each month from `first` to `last`."""
    return revenue_months(log_events(), first=first, last=last, currency=currency)


def charged_by_month(*, first: date, last: date, currency: str) -> list[Charged]:
    """Fixed beside usage revenue by month, from the lines of standing statements."""
    rows = (
        StatementLine.objects.filter(
            statement__state=StatementState.FINALISED,
            statement__currency=currency,
            statement__ends_at__date__gte=first,
            statement__ends_at__date__lte=last,
        )
        .annotate(month=TruncMonth("statement__ends_at"))
        .values("month", "kind")
        .annotate(amount=Sum("amount_minor"))
        .order_by("month")
    )
    found: dict[date, dict[str, int]] = {}
    for row in rows:
        found.setdefault(row["month"].date(), {})[row["kind"]] = row["amount"]
    return [_charged(month, currency, kinds) for month, kinds in found.items()]


def _charged(month: date, currency: str, kinds: dict[str, int]) -> Charged:
    fixed = sum(kinds.get(kind.value, 0) for kind in FIXED)
    credited = kinds.get(LineKind.CREDIT.value, 0)
    return Charged(month, currency, fixed, sum(kinds.values()) - fixed - credited, credited)
