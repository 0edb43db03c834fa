"""Writing the log of subscriptions: each event says what monthly recurring revenue (MRR) was before it and is from then on.

MRR of an organization: the plan's fee as a share of one month while its subscription is active or past due; nothing in a
trial, while paused or suspended for payment, or after the end. Each event takes over where the organization's last one stopped, so
the movements of any span of time add up.
"""

from datetime import datetime

from django.db import transaction

from core.one_by_one import one_by_one
from plans.models import (
    PlanVersion,
    Subscription,
    SubscriptionEvent,
    SubscriptionEventKind,
    SubscriptionStatus,
)

PAYING = (SubscriptionStatus.ACTIVE, SubscriptionStatus.PAST_DUE)


def monthly_fee_minor(version: PlanVersion) -> int:
    """The fee as a share of one month, whole minor units (a yearly fee is divided by twelve, rounded half up)."""
    months = version.fee_months
    return (2 * version.fee_minor + months) // (2 * months)


def record_event(
    subscription: Subscription,
    kind: SubscriptionEventKind,
    *,
    at: datetime,
    previous_version: PlanVersion | None = None,
) -> SubscriptionEvent:
    """Log what has just been done to a subscription, inside the act's transaction, whose lock orders the events.

    A change of currency is two rows: the revenue of the old currency ends, that of the new one begins.
    """
    version, paid_before = subscription.version, _last_mrr(subscription)
    if paid_before and paid_before.currency != version.currency:
        _row(subscription, kind, at, previous_version, paid_before.currency, 0, paid_before.mrr_minor)
        paid_before = None
    pays = subscription.status in PAYING and subscription.ended_at is None
    mrr, previous = monthly_fee_minor(version) if pays else 0, paid_before.mrr_minor if paid_before else 0
    return _row(subscription, kind, at, previous_version, version.currency, mrr, previous)


def record_end(subscription: Subscription, *, was: str, at: datetime) -> None:
    """Log the end of a subscription whose status `was`; of a trial also that it ended without payment."""
    if was == SubscriptionStatus.TRIALING:
        record_trial_end(subscription, at=at)
    record_event(subscription, SubscriptionEventKind.ENDED, at=at)


def record_trial_end(subscription: Subscription, *, at: datetime) -> bool:
    """Log, once, that a trial ended without payment; whether it was not logged before."""
    kind = SubscriptionEventKind.TRIAL_ENDED
    if subscription.trial_ends_at is None or subscription.events.filter(kind=kind).exists():
        return False
    record_event(subscription, kind, at=min(at, subscription.trial_ends_at))
    return True


def log_ended_trials(*, at: datetime, limit: int = 500) -> int:
    """Log trials that ran out since without payment; how many. Idempotent."""
    due = Subscription.objects.filter(
        status=SubscriptionStatus.TRIALING, ended_at=None, trial_ends_at__lte=at
    ).exclude(events__kind=SubscriptionEventKind.TRIAL_ENDED)
    ids = due.values_list("pk", flat=True)[:limit]
    return one_by_one(ids, lambda pk: _log_ended_trial(pk, at), failed="trial_end_not_logged")


@transaction.atomic
def _log_ended_trial(pk: int, at: datetime) -> bool:
    subscription = Subscription.objects.select_for_update().get(pk=pk)
    still = subscription.status == SubscriptionStatus.TRIALING and subscription.ended_at is None
    return still and record_trial_end(subscription, at=at)


def _last_mrr(subscription: Subscription) -> SubscriptionEvent | None:
    return SubscriptionEvent.objects.for_organization(subscription.organization).order_by("pk").last()


def _row(
    subscription: Subscription, kind: SubscriptionEventKind, at: datetime, previous_version: PlanVersion | None,
    currency: str, mrr_minor: int, previous_minor: int,
) -> SubscriptionEvent:  # fmt: skip
    return SubscriptionEvent.objects.create(
        organization=subscription.organization,
        subscription=subscription,
        kind=kind,
        at=at,
        version=subscription.version,
        previous_version=previous_version,
        currency=currency,
        mrr_minor=mrr_minor,
        previous_mrr_minor=previous_minor,
    )
