"""Changes of a plan that is paid by card: the one rule (ENGINE.md, section 9) carried out at Stripe, so that both sides are equal.

An upgrade is a new subscription there (billing/stripe/upgrades.py), and what the closed period used comes as items with its
statement. A downgrade waits in a schedule of Stripe's, a cancellation in the subscription's `cancel_at`. Requests are made
under the customer's lock, so that two tabs cannot both change, and under no row's: what an act will do is found by rehearsing
it, then Stripe is asked, then it is done.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import stripe
from django.db import transaction
from django.db.models import F, Q

from accounts.models import Organization, User
from accounts.permissions import check_can_decide_plan
from billing.collection import failed_invoices
from billing.models import StripeSubscription
from billing.stripe.checkout import check_can_pay, checkout_items, paying
from billing.stripe.client import for_people, once, once_at, plain, stripe_client
from billing.stripe.customers import customer_lock
from billing.stripe.quotes import read_quote
from billing.stripe.upgrades import (
    UpgradePrice,
    begin_upgrade,
    end_earlier,
    present_period,
    upgrade_price,
    waiting_upgrade,
)
from core.errors import PortalError
from core.one_by_one import one_by_one
from plans.laying import paid_until
from plans.models import PlanVersion, Subscription
from plans.services import (
    NothingToChange,
    cancel_subscription,
    change_plan,
    is_upgrade,
    undo_cancellation,
)

__all__ = [
    "PaymentOwed",
    "UpgradePrice",
    "cancel_paid_plan",
    "change_paid_plan",
    "keep_paid_plan",
    "upgrade_price",
]
Act = Callable[[Subscription], Subscription]


class PaymentOwed(PortalError):
    code, status, title = "payment_owed", 402, "An invoice is still to be paid"


@for_people()
def change_paid_plan(
    *,
    organization: Organization,
    version: PlanVersion,
    by: User | None,
    at: datetime,
    quote: str | None = None,
) -> str:
    """Upgrade at once, for the price that was shown (`quote`; None: nothing was, it is that of this moment), or downgrade at the
    period's end; '' when it is done. Where the bank asks its customer first, the page where the payment is confirmed: the
    plan changes when it is.

    Raises Forbidden, AddressNotConfirmed, NothingToChange, VersionNotOnSale, PaymentOwed or PriceChanged (of an upgrade),
    ChangedMeanwhile, or StripeRefused and StripeAway when the payment fails: nothing has changed then.
    """
    check_can_decide_plan(by, organization)
    row = paying(organization)
    is_up = row is not None and is_upgrade(row.version, version)
    if is_up:
        check_can_pay(by, organization)
    if is_up or waiting_upgrade(organization) is not None:
        end_earlier(organization, at=at)
    with customer_lock(organization.pk):
        row = paying(organization)
        if row is None or row.version_id == version.pk and row.subscription.next_version_id is None:
            raise NothingToChange
        if not is_upgrade(row.version, version):
            _on_both_sides(row, lambda one: change_plan(subscription=one, version=version, by=by, at=at), at)
            return ""
        # An upgrade gives back what is left of the fee, which nobody has paid then.
        if row.status in ("past_due", "unpaid") or failed_invoices(organization).exists():
            raise PaymentOwed("Pay the open invoice first; then this plan can be chosen.")
        price = read_quote(quote, row, version, at=at) if quote is not None else None
        at = at.replace(microsecond=0)  # Stripe counts whole seconds
        return begin_upgrade(row, version, at=at, price=price)


def cancel_paid_plan(*, organization: Organization, by: User | None, at: datetime) -> Subscription:
    """Cancel at the period's end, on both sides. Raises Forbidden, NothingToChange, StripeAway."""
    return _both(organization, cancel_subscription, by, at)


def keep_paid_plan(*, organization: Organization, by: User | None, at: datetime) -> Subscription:
    """Undo the cancellation, on both sides. Raises Forbidden, NothingToChange, StripeAway."""
    return _both(organization, undo_cancellation, by, at)


def follow_plans(*, at: datetime, limit: int = 200) -> int:
    """Carry out at Stripe what waits here and not there, such as a move by staff, or an act whose request was lost; how many."""
    waits = Q(subscription__next_version=F("next_version")) | Q(
        subscription__next_version=None, next_version=None
    )
    begun = Q(subscription__version=F("next_version"))
    cancels = Q(subscription__cancels_at=F("cancels_at")) | Q(subscription__cancels_at=None, cancels_at=None)
    differs = StripeSubscription.objects.filter(ended_at=None, subscription__ended_at=None)
    ids = differs.exclude(Q(waits | begun) & cancels).values_list("pk", flat=True)[:limit]
    return one_by_one(ids, lambda pk: _follow_plan(pk, at), failed="stripe_plan_not_followed")


def _follow_plan(pk: int, at: datetime) -> bool:
    organization_id = StripeSubscription.objects.values_list("organization_id", flat=True).get(pk=pk)
    with customer_lock(organization_id):
        row = StripeSubscription.objects.select_related("subscription__next_version").get(pk=pk)
        if row.ended_at is not None or row.subscription.ended_at is not None:
            return False
        follow_at_stripe(row.subscription, row, at=at)
    return True


@for_people()
def _both(organization: Organization, act: Any, by: User | None, at: datetime) -> Subscription:
    if waiting_upgrade(organization) is not None:
        end_earlier(organization, at=at)
    with customer_lock(organization.pk):
        row = paying(organization)
        if row is None:
            raise NothingToChange
        return _on_both_sides(row, lambda one: act(subscription=one, by=by, at=at), at)


def _on_both_sides(row: StripeSubscription, act: Act, at: datetime) -> Subscription:
    """Stripe first, by what the act would do; ours when Stripe has said yes. While it is asked, no row is locked: others who
    need the organization's (keys, caps, a payment) do not wait for a network."""
    follow_at_stripe(_rehearsed(row, act), row, at=at)
    try:
        return act(row.subscription)
    except PortalError:  # changed in this moment by somebody else, such as staff: what waits here waits there
        follow_at_stripe(Subscription.objects.get(pk=row.subscription_id), row, at=at)
        raise


def _rehearsed(row: StripeSubscription, act: Act) -> Subscription:
    """The subscription as the act would leave it. Taken back at once, and with it the locks that it took."""
    try:
        with transaction.atomic():
            raise _TakenBack(act(row.subscription))
    except _TakenBack as done:
        return done.subscription


class _TakenBack(Exception):
    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription


def follow_at_stripe(subscription: Subscription, row: StripeSubscription, *, at: datetime) -> None:
    """What waits on our side waits at Stripe: a cancellation, a change of plan, or nothing any more."""
    client = stripe_client()
    found = plain(client.v1.subscriptions.retrieve(row.stripe_id))
    if found.get("schedule"):
        schedule = str(found["schedule"])
        client.v1.subscription_schedules.release(schedule, options=once("release", schedule))
    end = subscription.cancels_at
    wanted = int(end.timestamp()) if end is not None else ""
    if (found.get("cancel_at") or "") != wanted:
        params: Any = {"cancel_at": wanted, "proration_behavior": "none"}
        client.v1.subscriptions.update(row.stripe_id, params, once_at("end", row.stripe_id, wanted, at=at))
    if subscription.next_version is not None:
        until = paid_until(present_period(subscription, at=at))
        _schedule(client, row, subscription.next_version, until, at)
    row.cancels_at, row.next_version = end, subscription.next_version
    row.save(update_fields=["cancels_at", "next_version"])


def _schedule(
    client: stripe.StripeClient, row: StripeSubscription, version: PlanVersion, until: datetime, at: datetime
) -> None:
    """The present phase until what is paid for is over (the month, the year, the trial), then the other version's prices; no
    proration, and no schedule after that."""
    key = once_at("schedule", row.stripe_id, at=at)
    made = plain(client.v1.subscription_schedules.create({"from_subscription": row.stripe_id}, key))
    phase = made["phases"][0]
    items = [
        {"price": item["price"]} | ({"quantity": item["quantity"]} if item.get("quantity") else {})
        for item in phase["items"]
    ]
    params: Any = {
        "end_behavior": "release",
        "proration_behavior": "none",
        "phases": [
            {
                "items": items,
                "start_date": phase["start_date"],
                "end_date": int(until.timestamp()),
                "proration_behavior": "none",
            }
            | ({"trial_end": phase["trial_end"]} if phase.get("trial_end") else {}),
            {
                "items": checkout_items(version),
                "duration": {"interval": version.interval, "interval_count": 1},
                "proration_behavior": "none",
                "metadata": {"farebox_version": str(version.pk)},
            },
        ],
    }
    client.v1.subscription_schedules.update(made["id"], params, once("phases", made["id"], version.pk))
