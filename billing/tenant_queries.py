"""Reads for the owner's API: tenants with their limits, and what they use. Each a fixed number of queries."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from dateutil.relativedelta import relativedelta
from django.db.models import Q, QuerySet, Sum

from accounts.models import Organization, OrganizationStatus
from billing.models import StripeCustomer
from core.money import to_major
from metering.costs import period_cost
from metering.models import UsageTotal
from plans.agreed_limits import limits_of
from plans.daily_tokens import daily_tokens
from plans.models import CapSide, Override, Period, SpendCap, Subscription
from plans.queries import find_period, token_meters

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Tenant:
    """An organization as the owner's system knows it. The cap is the provider's, in major units of `currency`."""

    organization: Organization
    plan: str
    subscription_status: str
    currency: str
    stripe_customer_id: str | None
    daily_token_limit: int | None
    monthly_spend_cap: Decimal | None
    rate_limits: Sequence[Override]

    @property
    def is_enabled(self) -> bool:
        return self.organization.status == OrganizationStatus.ACTIVE


@dataclass(frozen=True, slots=True)
class TenantUsage:
    """Live usage of a UTC day, of its calendar month, and of the billing period (None without a plan)."""

    day: datetime
    month: datetime
    tokens_today: Decimal
    tokens_month: Decimal
    daily_token_limit: int | None
    requests_today: int
    requests_month: int
    last_request: datetime | None
    period: Period | None
    cost: Decimal | None


def find_tenants(*, search: str = "", status: str = "") -> QuerySet[Organization]:
    """Customers that were not archived, newest first. `search`: part of the name, or an id, Stripe's id or a member's
    address; `status`: active or disabled."""
    found = Organization.objects.filter(archived_at=None).order_by("-pk")
    if search:
        exact = StripeCustomer.objects.filter(stripe_id=search).values("organization_id")
        found = found.filter(
            Q(name__icontains=search) | Q(public_id=search) | Q(pk__in=exact)
            | Q(memberships__user__email__iexact=search)
        ).distinct()  # fmt: skip
    if status:
        is_active = Q(status=OrganizationStatus.ACTIVE)
        found = found.filter(is_active if status == "active" else ~is_active)
    return found


def tenants(organizations: Sequence[Organization], *, at: datetime) -> list[Tenant]:
    """These organizations with what is set for them; five queries for all."""
    ids = [organization.pk for organization in organizations]
    customers = dict(
        StripeCustomer.objects.filter(organization_id__in=ids).values_list("organization_id", "stripe_id")
    )
    subscriptions = _subscriptions(ids, at)
    tokens, caps = daily_tokens(ids, at=at), _provider_caps(ids, at)
    limits = limits_of(ids, at=at)
    return [
        _tenant(one, subscriptions.get(one.pk), caps.get(one.pk), customers.get(one.pk), tokens.get(one.pk), limits.get(one.pk, ()))
        for one in organizations
    ]  # fmt: skip


def tenant_usage(organization: Organization, *, at: datetime) -> TenantUsage:
    """What a customer uses now. The cost is that of the usage page, to the cent."""
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    month = day.replace(day=1)
    live = UsageTotal.objects.for_organization(organization).filter(mode="live")
    is_today = Q(hour__gte=day, hour__lt=day + timedelta(days=1))
    is_token, is_call = Q(meter_id__in=[m.pk for m in token_meters()]), ~Q(status_class=0)
    sums = live.filter(hour__gte=month, hour__lt=month + relativedelta(months=1)).aggregate(
        tokens_today=Sum("sum", filter=is_token & is_today),
        tokens_month=Sum("sum", filter=is_token),
        requests_today=Sum("count", filter=is_call & is_today),
        requests_month=Sum("count", filter=is_call),
    )
    period = find_period(organization, at=at)
    rated = period_cost(organization, period=period, at=at) if period is not None else None
    return TenantUsage(
        day=day,
        month=month,
        tokens_today=sums["tokens_today"] or ZERO,
        tokens_month=sums["tokens_month"] or ZERO,
        daily_token_limit=daily_tokens([organization.pk], at=at).get(organization.pk),
        requests_today=sums["requests_today"] or 0,
        requests_month=sums["requests_month"] or 0,
        last_request=live.filter(is_call).order_by("-hour", "-last_at").values_list("last_at", flat=True).first(),
        period=period,
        cost=to_major(rated.total_minor, rated.currency) if rated is not None else None,
    )  # fmt: skip


def _tenant(
    organization: Organization, subscription: Subscription | None, cap: SpendCap | None, customer: str | None,
    tokens: int | None, limits: Sequence[Override],
) -> Tenant:  # fmt: skip
    currency = subscription.version.currency if subscription is not None else ""
    holds = cap is not None and cap.amount_minor is not None and cap.currency == currency
    return Tenant(
        organization=organization,
        plan=subscription.version.plan.slug if subscription is not None else "",
        subscription_status=subscription.status if subscription is not None else "",
        currency=currency,
        stripe_customer_id=customer,
        daily_token_limit=tokens,
        monthly_spend_cap=to_major(cap.amount_minor or 0, currency) if holds and cap is not None else None,
        rate_limits=limits,
    )


def _subscriptions(ids: list[int], at: datetime) -> dict[int, Subscription]:
    """The open subscription of each, else the newest one."""
    rows = Subscription.objects.filter(organization_id__in=ids, started_at__lte=at)
    newest = rows.select_related("version__plan").order_by("organization_id", "-started_at", "-pk")
    return {row.organization_id: row for row in newest.distinct("organization_id")}


def _provider_caps(ids: list[int], at: datetime) -> dict[int, SpendCap]:
    rows = SpendCap.objects.filter(organization_id__in=ids, side=CapSide.OWNER, at__lte=at)
    newest = rows.order_by("organization_id", "-at", "-pk").distinct("organization_id")
    return {row.organization_id: row for row in newest}
