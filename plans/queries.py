"""Reads about plans: what is on sale, who is on what, and what the doors are told."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property

from django.conf import settings
from django.db.models import Q, QuerySet

from accounts.models import Organization, OrganizationStatus
from plans.door import (
    FOREVER_US,
    PERIODS_AHEAD,
    DoorFacts,
    PeriodFacts,
    QuotaTerms,
    Span,
    door_table,
)
from plans.models import (
    Meter,
    Period,
    Plan,
    PlanVersion,
    Subscription,
    SubscriptionStatus,
    VersionState,
)
from plans.pricing import Terms, UsagePrice

# After a subscription has ended there are no periods ahead: the door says why.
CLOSED_FOR_EVER = (Span(0, FOREVER_US, 0, "subscription_cancelled"),)
PREFETCH = ("components__meter", "rate_limits")


def public_versions() -> list[PlanVersion]:
    """The newest published version of each public plan, in the order of the pricing page."""
    versions = (
        PlanVersion.objects.filter(state=VersionState.PUBLISHED, plan__is_public=True, plan__archived_at=None)
        .select_related("plan")
        .prefetch_related(*PREFETCH)
        .order_by("plan__position", "plan_id", "-number")
        .distinct("plan__position", "plan_id")
    )
    return list(versions)


def public_plans() -> QuerySet[Plan]:
    """Plans that anybody may choose."""
    return Plan.objects.filter(
        is_public=True, archived_at=None, versions__state=VersionState.PUBLISHED
    ).distinct()


def newest_version(plan_slug: str) -> PlanVersion:
    """The newest published version of a plan. Raises PlanVersion.DoesNotExist."""
    return (
        PlanVersion.objects.filter(plan__slug=plan_slug, state=VersionState.PUBLISHED, plan__archived_at=None)
        .select_related("plan")
        .latest("number")
    )


def terms_of(version: PlanVersion) -> Terms:
    """The priced side of a version, for plans/pricing.py."""
    components = sorted(version.components.all(), key=lambda component: component.pk)  # prefetched by lists
    usage = [UsagePrice(c.meter.slug, c.meter.unit, c.included, c.unit_price) for c in components]
    return Terms(version.plan.name, version.currency, version.fee_minor, tuple(usage))


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


@dataclass(frozen=True)
class Standing:
    """An organization's subscription with its present and next periods, read together."""

    organization: Organization
    subscription: Subscription | None
    periods: tuple[Period, ...]

    @property
    def version(self) -> PlanVersion | None:
        return self.periods[0].version if self.periods else None

    @cached_property
    def needs_payment(self) -> bool:
        """A trial without a way to pay, on a plan that costs something."""
        if self.subscription is None or self.subscription.status != SubscriptionStatus.TRIALING:
            return False
        after = self.subscription.next_version or self.subscription.version
        return not after.is_free


@dataclass(frozen=True, slots=True)
class ModeTerms:
    """What one mode (live or test) of an organization may do."""

    plan_slug: str
    plan_name: str
    features: frozenset[str]
    windows: tuple[tuple[int, int], ...]
    spans: tuple[Span, ...]


def find_standing(organization: Organization, *, at: datetime) -> Standing:
    """Subscription, this period and the next two, with their versions' prices and limits."""
    subscription = find_subscription(organization, at=at)
    if subscription is None:
        return Standing(organization, None, ())
    periods = (
        Period.objects.for_organization(organization)
        .filter(subscription=subscription, ends_at__gt=at)
        .select_related("version__plan")
        .prefetch_related("version__components__meter", "version__rate_limits")
        .order_by("starts_at")[: PERIODS_AHEAD + 1]
    )
    return Standing(organization, subscription, tuple(periods))


def mode_terms(standing: Standing, *, mode: str, test_plan: str) -> ModeTerms:
    """The plan's terms for live keys; for test keys the plan's features at the test plan's limits."""
    version = standing.version or (standing.subscription.version if standing.subscription else None)
    limits = newest_version(test_plan) if mode == "test" or version is None else version
    named = version or limits
    return ModeTerms(
        plan_slug=named.plan.slug,
        plan_name=named.plan.name,
        features=frozenset(named.features),
        windows=tuple((limit.window_seconds, limit.calls) for limit in limits.rate_limits.all()),
        spans=door_table(_door_facts(standing, limits), _period_facts(standing), mode=mode)
        or _closed(standing),
    )


def _closed(standing: Standing) -> tuple[Span, ...]:
    """An ended subscription closes the door for ever; periods that were not laid yet are no reason to."""
    has_ended = standing.subscription is None or standing.subscription.ended_at is not None
    return CLOSED_FOR_EVER if has_ended else ()


def _door_facts(standing: Standing, test_version: PlanVersion) -> DoorFacts:
    subscription = standing.subscription
    if subscription is None:
        return DoorFacts(False, "", None, None, None, True, None, ())
    return DoorFacts(
        suspended=standing.organization.status == OrganizationStatus.SUSPENDED,
        status=subscription.status,
        ended_at=subscription.ended_at,
        cancels_at=subscription.cancels_at,
        trial_ends_at=subscription.trial_ends_at,
        pays_after_trial=not standing.needs_payment,
        refused_from=_grace_end(subscription),
        test_quotas=_quotas(test_version),
    )


def _grace_end(subscription: Subscription) -> datetime | None:
    if subscription.status != SubscriptionStatus.PAST_DUE or subscription.past_due_since is None:
        return None
    return subscription.past_due_since + timedelta(days=settings.PAST_DUE_GRACE_DAYS)


def _period_facts(standing: Standing) -> list[PeriodFacts]:
    return [
        PeriodFacts(p.pk, p.starts_at, p.ends_at, p.is_trial, _quotas(p.version)) for p in standing.periods
    ]


def _quotas(version: PlanVersion) -> tuple[QuotaTerms, ...]:
    return tuple(
        QuotaTerms(c.meter_id, c.meter.decimals, c.included, c.sells_more)
        for c in version.components.all()
    )


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What test keys may do: the test plan's included quantity and calls a minute."""

    included: Decimal
    per_minute: int


def sandbox_limits(meter: Meter) -> SandboxLimits:
    """Limits of test mode for this meter."""
    version = newest_version(settings.TEST_MODE_PLAN)
    component = version.components.filter(meter=meter).first()
    limit = version.rate_limits.order_by("window_seconds").first()
    return SandboxLimits(component.included if component else Decimal(0), limit.calls if limit else 0)


def main_meter(version: PlanVersion) -> Meter | None:
    """The meter that a plan's pages speak of: that of its first price component."""
    component = version.components.select_related("meter").order_by("pk").first()
    return component.meter if component else None
