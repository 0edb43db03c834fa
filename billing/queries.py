"""What a period costs so far, and what the installation earns: rating applied to the ledger's totals."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from accounts.models import Organization
from metering.queries import period_quantities
from plans.history import PAYING, monthly_fee_minor
from plans.models import Interval, Period, Subscription
from plans.periods import month_number
from plans.pricing import Rated, rate_period
from plans.queries import terms_of

MONTHS_A_YEAR = 12


def period_cost(organization: Organization, *, period: Period) -> Rated:
    """The cost of a period so far, with its lines: live usage only."""
    return rate_so_far(period, period_quantities(organization, period=period, mode="live"))


def rate_so_far(period: Period, quantities: Mapping[tuple[str, str], Decimal]) -> Rated:
    """The cost of these quantities in this period. In a trial there is no fee, and what was reported above the included
    quantity is written off (ENGINE.md, section 4); a yearly fee stands in the first month of its year."""
    terms, usage = terms_of(period.version), _per_meter(quantities)
    if period.is_trial:
        unsold = tuple(replace(price, unit_price=None) for price in terms.usage)
        return rate_period(replace(terms, usage=unsold), usage, charge_fee=False)
    return rate_period(terms, usage, charge_fee=fee_is_due(period))


def _per_meter(quantities: Mapping[tuple[str, str], Decimal]) -> dict[str, Decimal]:
    usage: dict[str, Decimal] = {}
    for (meter, _), quantity in quantities.items():
        usage[meter] = usage.get(meter, Decimal(0)) + quantity
    return usage


def fee_is_due(period: Period) -> bool:
    """Whether the plan's fee is charged in this period: each month, or once in twelve on yearly plans; never in a trial."""
    if period.is_trial:
        return False
    months = month_number(period.anchor, period.starts_at)
    return period.version.interval == Interval.MONTH or months % MONTHS_A_YEAR == 0


@dataclass(frozen=True, slots=True)
class PlanRevenue:
    """Customers and monthly recurring revenue of one plan."""

    plan_name: str
    customers: int
    paying: int
    mrr_minor: int


def mrr_by_plan(*, at: datetime) -> list[PlanRevenue]:
    """Monthly recurring revenue: the monthly fees of subscriptions that are active or past due (trials do not count)."""
    rows: dict[str, PlanRevenue] = {}
    open_now = Subscription.objects.filter(ended_at=None, started_at__lte=at).select_related("version__plan")
    for subscription in open_now.order_by("version__plan__position"):
        name = subscription.version.plan.name
        old = rows.get(name, PlanRevenue(name, 0, 0, 0))
        pays = subscription.status in PAYING and subscription.version.fee_minor > 0
        fee = monthly_fee_minor(subscription.version) if pays else 0
        rows[name] = PlanRevenue(name, old.customers + 1, old.paying + pays, old.mrr_minor + fee)
    return list(rows.values())


def open_periods(*, at: datetime) -> list[Period]:
    """The present period of every open subscription, with organization, plan and prices."""
    return list(
        Period.objects.filter(starts_at__lte=at, ends_at__gt=at, subscription__ended_at=None)
        .select_related("organization", "version__plan", "subscription")
        .prefetch_related("version__components__meter")
    )
