"""What Stripe's events make us do. dj-stripe has verified them, stored them once and mirrored their objects.

Each only names what changed: the present object is fetched (billing/stripe/sync.py, invoices.py). Receivers run in the
transaction of the event; mail and tasks leave when it is committed.
"""

from collections.abc import Mapping
from typing import Any

from djstripe.models import Event, WebhookEventTrigger
from djstripe.signals import WEBHOOK_SIGNALS, webhook_pre_process

from billing.stripe.client import plain, stripe_client, stripe_id_of
from billing.stripe.customers import find_organization, take_customer_lock
from billing.stripe.details import forget_customer
from billing.stripe.invoices import apply_dispute, apply_refunds, sync_invoice
from billing.stripe.later import later
from billing.stripe.sync import sync_card, sync_subscription
from billing.stripe.trials import tell_trial_end
from core.clock import now

SUBSCRIPTION_EVENTS = [
    f"customer.subscription.{what}"
    for what in ("created", "updated", "deleted", "paused", "resumed", "trial_will_end")
]
INVOICE_EVENTS = [
    f"invoice.{what}"
    for what in (
        "created", "updated", "finalized", "finalization_failed", "paid", "payment_succeeded", "payment_failed",
        "payment_action_required", "voided", "marked_uncollectible",
    )
]  # fmt: skip
REFUND_EVENTS = [
    "charge.refunded", "charge.refund.updated", "refund.created", "refund.updated", "refund.failed",
]  # fmt: skip
DISPUTE_EVENTS = ["charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed"]
CARD_EVENTS = [
    f"payment_method.{what}" for what in ("attached", "detached", "updated", "automatically_updated")
]
CUSTOMER_EVENTS = [
    "customer.updated",
    *(f"customer.tax_id.{what}" for what in ("created", "updated", "deleted")),
]
HANDLED = [
    *SUBSCRIPTION_EVENTS, *INVOICE_EVENTS, *REFUND_EVENTS, *DISPUTE_EVENTS, *CARD_EVENTS, *CUSTOMER_EVENTS,
    "customer.deleted", "checkout.session.completed",
]  # fmt: skip


def lock_the_customer(sender: type[WebhookEventTrigger], instance: WebhookEventTrigger, **_: Any) -> None:
    """Before dj-stripe fetches anything: else the slower of two events of one object would store what is older."""
    organization = find_organization(_customer_of(instance.json_body.get("data", {})))
    take_customer_lock(organization.pk if organization is not None else 0)


def _customer_of(data: Mapping[str, Any]) -> str:
    """Whose event it is; of a payment method that was detached, whose it was."""
    found = data.get("object", {})
    if found.get("object") == "customer":
        return str(found["id"])
    before = data.get("previous_attributes") or {}
    return stripe_id_of(found.get("customer") or before.get("customer"))


def on_subscription(sender: type[Event], event: Event, **_: Any) -> None:
    row = sync_subscription(event.data["object"]["id"], at=now())
    if row is not None and event.type == "customer.subscription.trial_will_end":
        tell_trial_end(row)


def on_invoice(sender: type[Event], event: Event, **_: Any) -> None:
    sync_invoice(event.data["object"]["id"], at=now())


def on_checkout(sender: type[Event], event: Event, **_: Any) -> None:
    if found := stripe_id_of(event.data["object"].get("subscription")):
        sync_subscription(found, at=now())


def on_refund(sender: type[Event], event: Event, **_: Any) -> None:
    found = event.data["object"]
    charge = found["id"] if found["object"] == "charge" else stripe_id_of(found.get("charge"))
    if charge:  # a refund of something else pays nobody back here
        apply_refunds(plain(stripe_client().v1.charges.retrieve(charge)), at=now())


def on_dispute(sender: type[Event], event: Event, **_: Any) -> None:
    found = stripe_client().v1.disputes.retrieve(event.data["object"]["id"])
    apply_dispute(plain(found), at=now())


def on_card(sender: type[Event], event: Event, **_: Any) -> None:
    """A payment method changed: the open subscription is read again, and with it the card."""
    organization = find_organization(_customer_of(event.data))
    if organization is None:
        return
    if not organization.stripe_subscriptions.filter(ended_at=None).exists():
        sync_card(organization)
    for row in organization.stripe_subscriptions.filter(ended_at=None):
        sync_subscription(row.stripe_id, at=now())
        if row.status == "paused":
            later("billing.stripe_resume", row.stripe_id)


def on_customer(sender: type[Event], event: Event, **sent: Any) -> None:
    """Name, address, tax ids or default payment method changed there, perhaps in Stripe's customer portal. What is heard goes to
    the billing account, which is locked before the organization (docs/architecture.md), so in a transaction of its own."""
    on_card(sender, event, **sent)
    if (organization := find_organization(_customer_of(event.data))) is not None:
        later("billing.stripe_customer", organization.pk)


def on_customer_deleted(sender: type[Event], event: Event, **_: Any) -> None:
    organization = find_organization(_customer_of(event.data))
    if organization is not None:
        for row in organization.stripe_subscriptions.filter(ended_at=None):
            sync_subscription(row.stripe_id, at=now())  # Stripe has ended them; their events find no customer
        forget_customer(organization, at=now())


def connect() -> None:
    """Once, when the app is ready."""
    webhook_pre_process.connect(lock_the_customer, sender=WebhookEventTrigger, dispatch_uid="farebox-lock")
    for names, receiver in (
        (SUBSCRIPTION_EVENTS, on_subscription), (INVOICE_EVENTS, on_invoice), (REFUND_EVENTS, on_refund),
        (DISPUTE_EVENTS, on_dispute), (CARD_EVENTS, on_card), (["checkout.session.completed"], on_checkout),
        (CUSTOMER_EVENTS, on_customer), (["customer.deleted"], on_customer_deleted),
    ):  # fmt: skip
        for name in names:
            WEBHOOK_SIGNALS[name].connect(receiver, sender=Event, dispatch_uid=f"farebox-{name}")
