"""What payment does to a subscription: one table for every collector, from status and event to status, door and mail.

docs/billing.md prints it (`table_as_markdown`); plans/door.py enforces what the door does, from the status and its times.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from accounts.models import User
from plans.models import Subscription, SubscriptionStatus
from plans.paid import pause_subscription
from plans.services import activate_subscription, mark_past_due, suspend_for_payment


class PaymentEvent(StrEnum):
    """What a collector, or time, reports."""

    PAID = "paid"
    OVERDUE = "overdue"
    GRACE_OVER = "grace over"
    TRIAL_OVER = "trial over"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    RESUMED = "resumed"


@dataclass(frozen=True, slots=True)
class Step:
    """Where an event leads. `mail` is the template that owners and billing members get, if any."""

    status: SubscriptionStatus
    door: str
    mail: str = ""


_S, _E = SubscriptionStatus, PaymentEvent
OPEN, WARNED = "open", "open, `Farebox-Warning: payment_past_due`"
UNPAID, ENDED, PAUSED = "402 `payment_required`", "402 `subscription_cancelled`", "402 `subscription_paused`"

# What is not here changes nothing. The doors know the ends of trials, grace and cancelled periods beforehand and close at
# that second; the events follow within a minute and write down what has happened.
STEPS: Mapping[tuple[SubscriptionStatus, PaymentEvent], Step] = {
    (_S.TRIALING, _E.PAID): Step(_S.ACTIVE, OPEN),
    (_S.TRIALING, _E.TRIAL_OVER): Step(_S.TRIALING, "402 `trial_over`"),
    (_S.TRIALING, _E.CANCELLED): Step(_S.CANCELLED, ENDED),
    (_S.ACTIVE, _E.OVERDUE): Step(_S.PAST_DUE, WARNED, "payment_past_due"),
    (_S.ACTIVE, _E.CANCELLED): Step(_S.CANCELLED, ENDED),
    (_S.PAST_DUE, _E.PAID): Step(_S.ACTIVE, OPEN, "payment_received"),
    (_S.PAST_DUE, _E.GRACE_OVER): Step(_S.SUSPENDED, UNPAID, "payment_suspended"),
    (_S.PAST_DUE, _E.CANCELLED): Step(_S.CANCELLED, ENDED),
    (_S.SUSPENDED, _E.PAID): Step(_S.ACTIVE, OPEN, "payment_received"),
    (_S.SUSPENDED, _E.CANCELLED): Step(_S.CANCELLED, ENDED),
    (_S.ACTIVE, _E.PAUSED): Step(_S.PAUSED, PAUSED, "subscription_paused"),
    (_S.PAST_DUE, _E.PAUSED): Step(_S.PAUSED, PAUSED, "subscription_paused"),
    (_S.SUSPENDED, _E.PAUSED): Step(_S.PAUSED, PAUSED, "subscription_paused"),
    (_S.PAUSED, _E.RESUMED): Step(_S.ACTIVE, OPEN),
    (_S.PAUSED, _E.CANCELLED): Step(_S.CANCELLED, ENDED),
}
_ACTS: Mapping[SubscriptionStatus, Callable[..., Any]] = {
    _S.ACTIVE: activate_subscription,
    _S.PAST_DUE: mark_past_due,
    _S.SUSPENDED: suspend_for_payment,
    _S.PAUSED: pause_subscription,
}
_BY_COLLECTOR = (PaymentEvent.RESUMED,)  # it says from when on: plans.paid.resume_subscription


def advance(subscription: Subscription, event: PaymentEvent, *, by: User | None, at: datetime) -> Step | None:
    """Take the step that this event leads to, through the act of plans; None where it leads nowhere. Cancellations, ends of
    trials and of pauses are carried out by plans itself."""
    status = SubscriptionStatus(subscription.status)
    step = STEPS.get((status, event))
    if (
        subscription.ended_at is not None
        or step is None
        or event in _BY_COLLECTOR
        or step.status not in _ACTS
    ):
        return None
    _ACTS[step.status](subscription=subscription, by=by, at=at)
    return step


def table_as_markdown() -> str:
    """The table for the docs."""
    rows = ["| status | event | becomes | the door | mail |", "|---|---|---|---|---|"]
    for (status, event), step in STEPS.items():
        mail = f"`{step.mail}`" if step.mail else ""
        rows.append(f"| {status.value} | {event.value} | {step.status.value} | {step.door} | {mail} |")
    return "\n".join(rows)
