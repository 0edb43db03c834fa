"""Writing the log of subscriptions: each event says what monthly recurring revenue (MRR) was before it and is from then on.

MRR of an organization: the plan's fee as a share of one month while its subscription is active or past due; nothing in a
trial, while suspended for payment, or after the end. Each event takes over where the organization's last one stopped, so
the movements of any span of time add up.
"""

from datetime import datetime

from plans.models import (
    Interval,
    PlanVersion,
    Subscription,
    SubscriptionEvent,
    SubscriptionEventKind,
    SubscriptionStatus,
)

MONTHS_A_YEAR = 12
PAYING = (SubscriptionStatus.ACTIVE, SubscriptionStatus.PAST_DUE)


def monthly_fee_minor(version: PlanVersion) -> int:
    """The fee as a share of one month, whole minor units (a yearly fee is divided by twelve, rounded half up)."""
    if version.interval == Interval.MONTH:
        return version.fee_minor
    return (2 * version.fee_minor + MONTHS_A_YEAR) // (2 * MONTHS_A_YEAR)


def record_event(
    subscription: Subscription,
    kind: SubscriptionEventKind,
    *,
    at: datetime,
    previous_version: PlanVersion | None = None,
) -> SubscriptionEvent:
    """Log what has just been done to a subscription, inside the act's transaction, whose lock orders the events."""
    last = SubscriptionEvent.objects.for_organization(subscription.organization).order_by("pk").last()
    version = subscription.version
    pays = subscription.status in PAYING and subscription.ended_at is None
    return SubscriptionEvent.objects.create(
        organization=subscription.organization,
        subscription=subscription,
        kind=kind,
        at=at,
        version=version,
        previous_version=previous_version,
        currency=version.currency,
        mrr_minor=monthly_fee_minor(version) if pays else 0,
        previous_mrr_minor=last.mrr_minor if last else 0,
    )
