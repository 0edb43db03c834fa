"""The demo's clock: a customer's month, or its days of grace, end at once, here and at the stand-in for Stripe.

Never beside the real Stripe: without `STRIPE_API_HOST`, which only a stand-in on loopback may have, there is nothing here.
"""

import json
import urllib.request
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from accounts.models import Organization, User
from accounts.permissions import check_can_handle_money
from billing.collection import tell_payment
from billing.statements import finalise_statement
from billing.states import PaymentEvent
from billing.stripe.checkout import paying
from billing.stripe.client import StripeAway, for_people
from billing.stripe.customers import customer_lock
from billing.stripe.items import send_items
from billing.stripe.prepaid import use_credit
from billing.stripe.sender import send_usage
from billing.stripe.sync import sync_subscription
from billing.stripe.usage import fill_periods
from metering.drain import drain_all
from plans.models import SubscriptionStatus
from plans.paid import end_period

DRAFT_SECONDS = 5


def may_end_month(organization: Organization) -> bool:
    """Whether there is a stand-in, and a subscription there whose months have begun."""
    if not getattr(settings, "STRIPE_API_HOST", ""):
        return False
    return paying(organization) is not None


@for_people()
def end_month(*, organization: Organization, by: User | None, at: datetime) -> None:
    """End the present period on both sides: usage told, Stripe's invoice drafted, our statement made, its items sent; the
    draft is finalised and charged some seconds later. Raises Forbidden, StripeAway or StripeRefused."""
    check_can_handle_money(by)
    row = paying(organization)
    if row is None:
        return
    _control(
        "settings", {"draft_seconds": DRAFT_SECONDS}
    )  # first: where nobody answers, no month ends here alone
    end = at.replace(microsecond=0) + timedelta(seconds=1)
    drain_all(at=at)
    with customer_lock(organization.pk):
        period = end_period(subscription=row.subscription, by=by, at=end)
        fill_periods([period.pk], at=at)
    send_usage(at=at)
    _control("end-period", {"subscription": row.stripe_id, "at": int(end.timestamp())})
    with customer_lock(organization.pk):
        sync_subscription(row.stripe_id, at=at)
    finalise_statement(period=period, at=end + timedelta(minutes=settings.STATEMENT_GRACE_MINUTES))
    send_usage(at=at)
    send_items(at=at)
    use_credit(at=at)


def may_end_grace(organization: Organization) -> bool:
    """Whether a payment by card is overdue, and calls still pass."""
    row = paying(organization) if getattr(settings, "STRIPE_API_HOST", "") else None
    return row is not None and row.subscription.status == SubscriptionStatus.PAST_DUE


def let_grace_end(*, organization: Organization, by: User | None, at: datetime) -> bool:
    """The days of grace are over: calls are refused until the payment is made. Raises Forbidden."""
    check_can_handle_money(by)
    with customer_lock(organization.pk):
        return tell_payment(organization, PaymentEvent.GRACE_OVER, by=by, at=at)


def _control(path: str, sent: dict[str, Any]) -> None:
    request = urllib.request.Request(  # noqa: S310 - a loopback address: settings hold it to that
        f"{settings.STRIPE_API_HOST}/_standin/{path}", json.dumps(sent).encode(), method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            answer.read()
    except OSError as error:
        raise StripeAway("The stand-in does not answer: start it, then try again.") from error
