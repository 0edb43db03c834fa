"""What Stripe's events make us do. dj-stripe has verified them, stored them once and mirrored their objects.

Each only names what changed: the present object is fetched (billing/stripe/sync.py, invoices.py). Receivers run in the
transaction of the event; mail and tasks leave when it is committed.
"""

from typing import Any

from djstripe.models import Event, WebhookEventTrigger
from djstripe.signals import WEBHOOK_SIGNALS, webhook_pre_process

from billing.stripe.client import plain, stripe_client, stripe_id_of
from billing.stripe.customers import find_organization, take_customer_lock
from billing.stripe.invoices import apply_dispute, apply_refunds, sync_invoice
from billing.stripe.later import later
from billing.stripe.sync import sync_subscription
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
REFUND_EVENTS = ["charge.refunded", "charge.refund.updated"]
DISPUTE_EVENTS = ["charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed"]
CARD_EVENTS = [
    "customer.updated",
    "payment_method.attached",
    "payment_method.updated",
    "payment_method.automatically_updated",
]
HANDLED = [
    *SUBSCRIPTION_EVENTS, *INVOICE_EVENTS, *REFUND_EVENTS, *DISPUTE_EVENTS, *CARD_EVENTS, "checkout.session.completed",
]  # fmt: skip


def lock_the_customer(sender: type[WebhookEventTrigger], instance: WebhookEventTrigger, **_: Any) -> None:
    """Before dj-stripe fetches anything: else the slower of two events of one object would store what is older."""
    found = instance.json_body.get("data", {}).get("object", {})
    customer = found["id"] if found.get("object") == "customer" else found.get("customer")
    organization = find_organization(stripe_id_of(customer))
    take_customer_lock(organization.pk if organization is not None else 0)


def on_subscription(sender: type[Event], event: Event, **_: Any) -> None:
    sync_subscription(event.data["object"]["id"], at=now())


def on_invoice(sender: type[Event], event: Event, **_: Any) -> None:
    sync_invoice(event.data["object"]["id"], at=now())


def on_checkout(sender: type[Event], event: Event, **_: Any) -> None:
    if found := stripe_id_of(event.data["object"].get("subscription")):
        sync_subscription(found, at=now())


def on_refund(sender: type[Event], event: Event, **_: Any) -> None:
    found = event.data["object"]
    charge = found["id"] if found["object"] == "charge" else stripe_id_of(found["charge"])
    apply_refunds(plain(stripe_client().v1.charges.retrieve(charge)), at=now())


def on_dispute(sender: type[Event], event: Event, **_: Any) -> None:
    found = stripe_client().v1.disputes.retrieve(event.data["object"]["id"])
    apply_dispute(plain(found), at=now())


def on_card(sender: type[Event], event: Event, **_: Any) -> None:
    """A default payment method changed: the open subscription is read again, and with it the card."""
    found = event.data["object"]
    customer = found["id"] if found["object"] == "customer" else stripe_id_of(found.get("customer"))
    organization = find_organization(customer)
    if organization is None:
        return
    for row in organization.stripe_subscriptions.filter(ended_at=None):
        sync_subscription(row.stripe_id, at=now())
        if row.status == "paused":
            later("billing.stripe_resume", row.stripe_id)


def connect() -> None:
    """Once, when the app is ready."""
    webhook_pre_process.connect(lock_the_customer, sender=WebhookEventTrigger, dispatch_uid="farebox-lock")
    for names, receiver in (
        (SUBSCRIPTION_EVENTS, on_subscription), (INVOICE_EVENTS, on_invoice), (REFUND_EVENTS, on_refund),
        (DISPUTE_EVENTS, on_dispute), (CARD_EVENTS, on_card), (["checkout.session.completed"], on_checkout),
    ):  # fmt: skip
        for name in names:
            WEBHOOK_SIGNALS[name].connect(receiver, sender=Event, dispatch_uid=f"farebox-{name}")
