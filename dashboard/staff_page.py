"""What the staff page shows, read once: revenue, customers, calls of the month, top customers, upstream health."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.conf import settings

from accounts.models import Organization
from billing.exchange import rank_amounts
from billing.queries import PlanRevenue, mrr_by_plan, open_periods
from core.money import Money, format_money
from metering.costs import period_costs
from metering.models import DeadLetter
from metering.queries import ProductHealth, installation_quantity, product_health
from plans.default_catalogue import CALLS_METER
from plans.models import Period, Product, SubscriptionStatus
from plans.pricing import Rated

TOP = 10
HEALTH_HOURS = 24
OF_USAGE = ("usage", "write_off")  # kinds of lines; fees are in the MRR


@dataclass(frozen=True, slots=True)
class CustomerRow:
    """A customer's present period: plan, usage of its first meter and cost so far."""

    organization: Organization
    plan_name: str
    status: str
    calls: Decimal
    cost_minor: int
    usage_minor: int
    currency: str
    cost: str


@dataclass(frozen=True, slots=True)
class HealthRow:
    """A product's last 24 hours: calls, failures of the upstream, and how long answers took."""

    product: Product
    health: ProductHealth

    @property
    def pill(self) -> str:
        if not self.health.calls:
            return "plain"
        per_mille = self.health.failed * 1000 // self.health.calls
        return "good" if per_mille < 10 else "warn" if per_mille < 50 else "bad"

    @property
    def label(self) -> str:
        return {"plain": "no calls", "good": "healthy", "warn": "some failures", "bad": "failing"}[self.pill]


@dataclass(frozen=True, slots=True)
class Overview:
    """All of the staff page; money in text and minor units."""

    mrr: str
    customers: int
    trials: int
    calls_this_month: Decimal
    usage_revenue: str
    plans: list[PlanRevenue]
    top: list[CustomerRow]
    health: list[HealthRow]
    dead_letters: int

    @property
    def trials_note(self) -> str:
        return f"{self.trials} in their trial" if self.trials else ""


def overview(*, at: datetime) -> Overview:
    """The installation now; a fixed number of queries, however many customers there are."""
    periods, plans = open_periods(at=at), mrr_by_plan(at=at)
    rows = _customer_rows(periods, at)
    month = at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return Overview(
        mrr=_in_each_currency([Money(plan.mrr_minor, plan.currency) for plan in plans]),
        customers=sum(plan.customers for plan in plans),
        trials=sum(period.subscription.status == SubscriptionStatus.TRIALING for period in periods),
        calls_this_month=installation_quantity(meter_slug=CALLS_METER, start=month, end=at),
        usage_revenue=_in_each_currency([Money(row.usage_minor, row.currency) for row in rows]),
        plans=plans,
        top=_dearest(rows, at),
        health=_health(at),
        dead_letters=DeadLetter.objects.filter(replayed_at=None).count(),
    )


def _dearest(rows: list[CustomerRow], at: datetime) -> list[CustomerRow]:
    """Whose period costs most so far, compared by the day's exchange rates."""
    into, today = settings.REPORTING_CURRENCY, at.astimezone(UTC).date()
    worth = rank_amounts([(row.cost_minor, row.currency) for row in rows], into=into, on=today)
    ranked = sorted(zip(worth, rows, strict=True), key=lambda pair: (-pair[0], -pair[1].calls))
    return [row for _, row in ranked[:TOP]]


def _first_metered(rated: Rated) -> Decimal:
    """The quantity of the first meter, over all its lines."""
    meter = next((line.meter for line in rated.lines if line.meter), "")
    return sum((line.quantity for line in rated.lines if meter and line.meter == meter), Decimal(0))


def _customer_rows(periods: list[Period], at: datetime) -> list[CustomerRow]:
    """Rates every present period from one read of the period totals."""
    rows = []
    for period, rated in zip(periods, period_costs(periods, at=at), strict=True):
        rows.append(
            CustomerRow(
                period.organization, period.version.plan.name, period.subscription.get_status_display(), _first_metered(rated),
                rated.total_minor, sum(line.amount_minor for line in rated.lines if line.kind in OF_USAGE), rated.currency,
                format_money(rated.total_minor, rated.currency),
            )
        )  # fmt: skip
    return rows


def _in_each_currency(amounts: list[Money]) -> str:
    """`$49.00 + €20.00`: amounts of different currencies have no sum; a currency with nothing is left out."""
    sums: dict[str, int] = defaultdict(int)
    for amount in amounts:
        sums[amount.currency] += amount.minor
    shown = [format_money(minor, currency) for currency, minor in sorted(sums.items()) if minor]
    return " + ".join(shown) or format_money(0, next(iter(sums), "USD"))


def _health(at: datetime) -> list[HealthRow]:
    found = product_health(start=at - timedelta(hours=HEALTH_HOURS), end=at)
    products = Product.objects.filter(archived_at=None).order_by("name")
    return [HealthRow(product, found.get(product.pk, ProductHealth(0, 0, 0))) for product in products]
