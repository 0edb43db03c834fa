"""The state of a subscription in one sentence, with what to do next."""

from dataclasses import dataclass
from datetime import datetime

from plans.models import Subscription, SubscriptionStatus


@dataclass(frozen=True, slots=True)
class PlanStatus:
    """`label` and `pill` for lists; `sentence` says what happens next; `until` dates it. `is_closed`: it has ended, or its trial."""

    label: str
    pill: str
    sentence: str
    until: datetime | None = None
    is_closed: bool = False


def plan_status(subscription: Subscription, *, at: datetime) -> PlanStatus:
    """What the reader has to know about this subscription now."""
    if subscription.ended_at is not None and subscription.ended_at <= at:
        return PlanStatus(
            "Cancelled",
            "bad",
            "Calls are refused with 402. Choose a plan to go on; Free needs no payment.",
            is_closed=True,
        )
    if subscription.cancels_at is not None:
        return PlanStatus(
            "Cancelled", "warn", "You can undo it. Your keys work until", subscription.cancels_at
        )
    trial_ends_at = subscription.trial_ends_at
    if subscription.status == SubscriptionStatus.TRIALING and trial_ends_at is not None:
        if trial_ends_at <= at:
            return PlanStatus(
                "Trial over",
                "bad",
                "Calls are refused with 402. Choose a plan to go on; Free needs no payment.",
                is_closed=True,
            )
        return PlanStatus("Trial", "good", "Nothing is charged during the trial. It ends on", trial_ends_at)
    if subscription.status == SubscriptionStatus.ACTIVE and trial_ends_at is not None and trial_ends_at > at:
        return PlanStatus(
            "Trial", "good", "Your plan goes on by itself. Nothing is charged before", trial_ends_at
        )
    if subscription.status == SubscriptionStatus.PAST_DUE:
        return PlanStatus("Past due", "warn", "A payment is overdue. Calls pass during the days of grace.")
    if subscription.status == SubscriptionStatus.SUSPENDED:
        return PlanStatus("Suspended", "bad", "Calls are refused with 402 until the overdue payment is made.")
    if subscription.status == SubscriptionStatus.PAUSED:
        return PlanStatus(
            "Paused",
            "bad",
            "Calls are refused with 402, and nothing is charged. Add a payment method to go on.",
        )
    return PlanStatus("Active", "good", "")
