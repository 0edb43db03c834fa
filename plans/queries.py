"""Reads about plans: what is on sale, who is on what, and what the doors are told."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.db.models import Case, Prefetch, Q, QuerySet, When, prefetch_related_objects

from accounts.models import Organization
from plans.dimensions import in_words, match_text
from plans.models import (
    ADDITIVE,
    Counted,
    Interval,
    LimitScope,
    Meter,
    Period,
    Plan,
    PlanVersion,
    PriceComponent,
    RateLimit,
    Subscription,
    VersionState,
)
from plans.pricing import PriceModel, PriceStep, Terms, UsagePrice

ZERO = Decimal(0)
TOKEN_UNITS = ("token", "tokens", "Token")
LIMIT_ROWS = RateLimit.objects.select_related("route__product", "model", "meter")
PREFETCH = ("components__meter", "components__tiers", Prefetch("rate_limits", LIMIT_ROWS))


def public_versions(currency: str = "", interval: str = "") -> list[PlanVersion]:
    """The price lists of public plans that are on sale, one per plan, in the order of the pricing page.

    Plans without a list in this currency and interval are left out. Empty: as `newest_version` chooses.
    """
    found = list(_on_sale(currency, interval).filter(plan__is_public=True).prefetch_related(*PREFETCH))
    return sorted(found, key=lambda version: (version.plan.position, version.plan_id))


def public_plans() -> QuerySet[Plan]:
    """Plans that anybody may choose."""
    return Plan.objects.filter(
        is_public=True, archived_at=None, versions__state=VersionState.PUBLISHED
    ).distinct()


def newest_version(plan_slug: str, *, currency: str = "", interval: str = "") -> PlanVersion:
    """The price list of a plan that is on sale: the newest published version of this currency and interval.

    Empty: the currency of the installation (DEFAULT_CURRENCY) and monthly where the plan has them. Raises
    PlanVersion.DoesNotExist.
    """
    return _on_sale(currency, interval).get(plan__slug=plan_slug)


def offer_key(version: PlanVersion) -> str:
    """A price list in addresses and forms: `starter` for the plan's own, `starter.EUR.year` for its others."""
    is_own = (version.currency, version.interval) == (settings.DEFAULT_CURRENCY, Interval.MONTH)
    return version.plan.slug if is_own else f"{version.plan.slug}.{version.currency}.{version.interval}"


def find_offer(key: str) -> PlanVersion | None:
    """The price list of a public plan that is on sale under this key (`offer_key`), for sign-up."""
    slug, _, rest = key.partition(".")
    currency, _, interval = rest.partition(".")
    return _on_sale(currency, interval).filter(plan__slug=slug, plan__is_public=True).first()


def price_lists(plan: Plan | None = None) -> list[tuple[str, str]]:
    """(currency, interval) of all price lists on sale of public plans, or of one plan; the default first."""
    lists = PlanVersion.objects.filter(state=VersionState.PUBLISHED, plan__archived_at=None)
    lists = lists.filter(plan=plan) if plan is not None else lists.filter(plan__is_public=True)
    pairs = set(lists.order_by().values_list("currency", "interval").distinct())
    return sorted(
        pairs, key=lambda pair: (pair[0] != settings.DEFAULT_CURRENCY, pair[0], pair[1] != Interval.MONTH)
    )


def _on_sale(currency: str, interval: str) -> QuerySet[PlanVersion]:
    """One version per plan, of plans that are not archived."""
    versions = PlanVersion.objects.filter(state=VersionState.PUBLISHED, plan__archived_at=None)
    if currency:
        versions = versions.filter(currency=currency)
    if interval:
        versions = versions.filter(interval=interval)
    home = Case(When(currency=settings.DEFAULT_CURRENCY, then=0), default=1)
    monthly = Case(When(interval=Interval.MONTH, then=0), default=1)
    return versions.select_related("plan").order_by("plan_id", home, monthly, "-number").distinct("plan_id")


def terms_of(version: PlanVersion) -> Terms:
    """The priced side of a version, for plans/pricing.py; lines in the components' order. Three queries, or none after PREFETCH."""
    prefetch_related_objects([version], "components__meter", "components__tiers")
    components = sorted(version.components.all(), key=lambda c: (c.position, c.pk))
    return Terms(
        version.plan.name,
        version.currency,
        version.fee_minor,
        tuple(usage_price(component) for component in components),
        version.minimum_minor,
    )


def hard_quotas(components: Iterable[PriceComponent]) -> dict[str, Decimal | None]:
    """By meter slug, where the door refuses: it does not know dimensions, so the quotas of a meter's prices add up; None
    where one of them sells more."""
    quotas: dict[str, Decimal | None] = {}
    for component in components:
        before, limit = quotas.get(component.meter.slug, ZERO), component.hard_quota
        quotas[component.meter.slug] = None if before is None or limit is None else before + limit
    return quotas


def usage_price(component: PriceComponent) -> UsagePrice:
    """One component as rating takes it; without a wording of its own, its line is called like the meter."""
    match = tuple((name, str(component.match[name])) for name in sorted(component.match))
    tiers = sorted(component.tiers.all(), key=lambda t: (t.up_to is None, t.up_to or ZERO))
    return UsagePrice(
        component.meter.slug,
        component.meter.unit,
        component.included,
        component.unit_price,
        model=PriceModel(component.model),
        steps=tuple(PriceStep(t.up_to, t.unit_price, t.flat_price) for t in tiers),
        package_size=component.package_size,
        maximum_minor=component.maximum_minor,
        match=match,
        text=component.text or _line_words(component.meter.name, match),
    )


def _line_words(name: str, match: tuple[tuple[str, str], ...]) -> str:
    return f"{name} ({in_words(match_text(match))})" if match else name


def find_subscription(organization: Organization, *, at: datetime) -> Subscription | None:
    """The subscription of this moment; when none is open, the newest one (ended: its door is closed)."""
    subscriptions = Subscription.objects.for_organization(organization).select_related(
        "version__plan", "next_version__plan"
    )
    return (
        subscriptions.filter(Q(ended_at=None) | Q(ended_at__gt=at), started_at__lte=at).first()
        or subscriptions.order_by("-started_at").first()
    )


def current_subscription(organization: Organization, *, at: datetime) -> Subscription:
    """Like find_subscription. Raises Subscription.DoesNotExist."""
    found = find_subscription(organization, at=at)
    if found is None:
        raise Subscription.DoesNotExist
    return found


def find_period(organization: Organization, *, at: datetime) -> Period | None:
    """The billing period that contains this moment; after the end of a subscription, its last one."""
    periods = Period.objects.for_organization(organization).select_related("version__plan", "subscription")
    return periods.filter(starts_at__lte=at).order_by("-starts_at").first()


def current_period(organization: Organization, *, at: datetime) -> Period:
    """Like find_period. Raises Period.DoesNotExist."""
    found = find_period(organization, at=at)
    if found is None:
        raise Period.DoesNotExist
    return found


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What test keys may do: the test plan's included quantity and calls a minute."""

    included: Decimal
    per_minute: int


def sandbox_limits(meter: Meter) -> SandboxLimits:
    """Limits of test mode for this meter."""
    version = newest_version(settings.TEST_MODE_PLAN)
    component = version.components.filter(meter=meter).first()
    limits = version.rate_limits.filter(measure=Counted.CALLS, scope=LimitScope.ORGANIZATION)
    limit = limits.order_by("window_seconds").first()
    return SandboxLimits(component.included if component else Decimal(0), int(limit.calls) if limit else 0)


def main_meter(version: PlanVersion) -> Meter | None:
    """The meter that a plan's pages speak of: that of its first price component."""
    component = version.components.select_related("meter").order_by("position", "pk").first()
    return component.meter if component else None


def token_meters() -> QuerySet[Meter]:
    """The meters whose unit is a token: what daily token limits and counts of tokens are about."""
    return Meter.objects.filter(unit__in=TOKEN_UNITS, aggregation__in=ADDITIVE, archived_at=None).order_by(
        "pk"
    )
