"""What the installation earns from fees, as plans say (costs of periods: metering/costs.py)."""

from dataclasses import dataclass
from datetime import datetime

from plans.history import PAYING, monthly_fee_minor
from plans.models import Period, Subscription


@dataclass(frozen=True, slots=True)
class PlanRevenue:
    """Customers and monthly recurring revenue of one plan in one currency."""

    plan_name: str
    currency: str
    customers: int
    paying: int
    mrr_minor: int


def mrr_by_plan(*, at: datetime) -> list[PlanRevenue]:
    """Monthly recurring revenue: the monthly fees of subscriptions that are active or past due (trials do not count)."""
    rows: dict[tuple[str, str], PlanRevenue] = {}
    open_now = Subscription.objects.filter(ended_at=None, started_at__lte=at).select_related("version__plan")
    for subscription in open_now.order_by("version__plan__position"):
        key = name, currency = subscription.version.plan.name, subscription.version.currency
        old = rows.get(key, PlanRevenue(name, currency, 0, 0, 0))
        pays = subscription.status in PAYING and subscription.version.fee_minor > 0
        fee = monthly_fee_minor(subscription.version) if pays else 0
        rows[key] = PlanRevenue(name, currency, old.customers + 1, old.paying + pays, old.mrr_minor + fee)
    return list(rows.values())


def open_periods(*, at: datetime) -> list[Period]:
    """The present period of every open subscription, with organization, plan and prices."""
    return list(
        Period.objects.filter(starts_at__lte=at, ends_at__gt=at, subscription__ended_at=None)
        .select_related("organization", "version__plan", "subscription")
        .prefetch_related("version__components__meter", "version__components__tiers")
    )
