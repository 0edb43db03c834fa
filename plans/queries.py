"""Reads about plans: what is on sale, who is on what, and what the doors are told."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.db.models import Q, QuerySet

from accounts.models import Organization
from plans.models import (
    Meter,
    Period,
    Plan,
    PlanVersion,
    Subscription,
    VersionState,
)
from plans.pricing import Terms, UsagePrice

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
