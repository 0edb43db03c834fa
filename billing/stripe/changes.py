"""Changes of a plan that is paid by card: the one rule (ENGINE.md, section 9) carried out at Stripe, so that both sides are equal.

An upgrade is a new subscription there: the old one ends without proration and without an invoice, the unused part of its fee
is an item of ours on the new one's first invoice, and what the closed period used comes as items with its statement. A
downgrade waits in a schedule of Stripe's, a cancellation in the subscription's `cancel_at`. Requests are made under the
customer's lock, so that two tabs cannot both change.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import stripe
from django.db.models import F, Q

from accounts.models import Organization, User
from accounts.permissions import check_can_decide_plan
from billing.collection import failed_invoices
from billing.models import StripeSubscription
from billing.stripe.checkout import checkout_items, paying
from billing.stripe.client import for_people, once, once_at, plain, stripe_client, stripe_id_of
from billing.stripe.customers import customer_lock, ensure_customer
from billing.stripe.sync import (
    CREDIT_AMOUNT,
    CREDIT_ITEM,
    EXPAND,
    apply_subscription,
    credit_text,
)
from core.errors import PortalError
from core.one_by_one import one_by_one
from metering.costs import fee_back_minor
from plans.models import Period, PlanVersion, Subscription
from plans.services import (
    NothingToChange,
    cancel_subscription,
    change_plan,
    is_upgrade,
    undo_cancellation,
)


class PaymentOwed(PortalError):
    code, status, title = "payment_owed", 402, "An invoice is still to be paid"


@dataclass(frozen=True, slots=True)
class UpgradePrice:
    """What an upgrade costs now: the new fee, less the unused part of the old one. Minor units."""

    currency: str
    fee_minor: int
    credit_minor: int

    @property
    def due_minor(self) -> int:
        return self.fee_minor - self.credit_minor


def upgrade_price(row: StripeSubscription, version: PlanVersion, *, at: datetime) -> UpgradePrice:
    """What `change_paid_plan` would charge at this moment; nothing in a trial that goes on."""
    if row.status == "trialing":
        return UpgradePrice(version.currency, 0, 0)
    period = _present(row.subscription, at)
    return UpgradePrice(version.currency, version.fee_minor, fee_back_minor(period, at=at))


@for_people()
def change_paid_plan(
    *, organization: Organization, version: PlanVersion, by: User | None, at: datetime
) -> Subscription:
    """Upgrade at once, for the price that was shown, or downgrade at the period's end.

    Raises Forbidden, NothingToChange, VersionNotOnSale, PaymentOwed (of an upgrade), or StripeRefused and StripeAway when the payment fails: nothing has
    changed then.
    """
    check_can_decide_plan(by, organization)
    at = at.replace(microsecond=0)
    with customer_lock(organization.pk):
        row = paying(organization)
        if row is None or row.version_id == version.pk and row.subscription.next_version_id is None:
            raise NothingToChange
        if is_upgrade(row.version, version):
            # An upgrade gives back what is left of the fee, which nobody has paid then.
            if row.status in ("past_due", "unpaid") or failed_invoices(organization).exists():
                raise PaymentOwed("Pay the open invoice first; then this plan can be chosen.")
            _upgrade(organization, row, version, at)
        else:
            change_plan(subscription=row.subscription, version=version, by=by, at=at)
            follow_at_stripe(Subscription.objects.get(pk=row.subscription_id), row, at=at)
    return Subscription.objects.get(pk=row.subscription_id)


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
    with customer_lock(organization.pk):
        row = paying(organization)
        if row is None:
            raise NothingToChange
        subscription: Subscription = act(subscription=row.subscription, by=by, at=at)
        follow_at_stripe(subscription, row, at=at)  # when it fails, ours is taken back with the transaction
    return subscription


def _upgrade(organization: Organization, row: StripeSubscription, version: PlanVersion, at: datetime) -> None:
    price = upgrade_price(row, version, at=at)
    customer = ensure_customer(organization).stripe_id
    client, key = stripe_client(), (row.stripe_id, version.pk, int(at.timestamp()))
    item = None
    if price.credit_minor:
        item = client.v1.invoice_items.create(
            {
                "customer": customer,
                "amount": -price.credit_minor,
                "currency": price.currency.lower(),
                "description": credit_text(row),
                "metadata": {"farebox_credit_of": row.stripe_id},
            },
            once("credit", *key),
        )
    metadata = {
        "farebox_organization": organization.public_id,
        "farebox_version": str(version.pk),
        "farebox_replaces": row.stripe_id,
    }
    if item is not None:
        metadata |= {CREDIT_ITEM: item.id, CREDIT_AMOUNT: str(price.credit_minor)}
    params: Any = {
        "customer": customer,
        "items": checkout_items(version),
        "billing_mode": {"type": "flexible"},
        "payment_behavior": "error_if_incomplete",
        "metadata": metadata,
        "expand": EXPAND,
    }
    if card := stripe_id_of(
        plain(client.v1.subscriptions.retrieve(row.stripe_id)).get("default_payment_method")
    ):
        params["default_payment_method"] = card  # Checkout sets it on the subscription, not on the customer
    if row.status == "trialing" and row.subscription.trial_ends_at is not None:
        params["trial_end"] = int(row.subscription.trial_ends_at.timestamp())
    try:
        made = client.v1.subscriptions.create(params, once("upgrade", *key))
    except stripe.StripeError:
        if item is not None:
            with suppress(
                stripe.StripeError
            ):  # on an invoice by now, or Stripe is away: the comparison tells
                client.v1.invoice_items.delete(item.id)
        raise
    apply_subscription(plain(made), at=at)


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
        _schedule(client, row, subscription.next_version, at)
    row.cancels_at, row.next_version = end, subscription.next_version
    row.save(update_fields=["cancels_at", "next_version"])


def _schedule(
    client: stripe.StripeClient, row: StripeSubscription, version: PlanVersion, at: datetime
) -> None:
    """The present phase as it is until its end, then the other version's prices; no proration, and no schedule after that."""
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
                "end_date": phase["end_date"],
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


def _present(subscription: Subscription, at: datetime) -> Period:
    rows = subscription.periods.filter(starts_at__lte=at).select_related("organization", "version__plan")
    return rows.latest("starts_at")
