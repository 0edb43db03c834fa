"""What comes of an invoice's payment and of its failure: the subscription's status, the next attempt, the last consequence."""

from stripe_standin import invoices, lifecycle
from stripe_standin.store import Obj
from stripe_standin.world import DAY, World


def payment_came(world: World, invoice: Obj) -> None:
    subscription = invoices.subscription_of(world, invoice)
    customer = world.store.get("customer", invoice["customer"])
    if customer["delinquent"]:
        with world.updating(customer, "customer.updated"):
            customer["delinquent"] = False
    if subscription is None or subscription["status"] not in ("incomplete", "past_due", "unpaid"):
        return
    still_open = [
        each
        for each in world.store.where("invoice", customer=invoice["customer"], status="open")
        if each["attempted"] and invoices.subscription_of(world, each) is subscription
    ]
    if (
        subscription["status"] == "incomplete"
        or not still_open
        or subscription["latest_invoice"] == invoice["id"]
    ):
        with world.updating(subscription, "customer.subscription.updated"):
            subscription["status"] = "active"
            if (subscription["payment_settings"] or {}).get(
                "save_default_payment_method"
            ) == "on_subscription":
                intent = invoices.intent_of(world, invoice["id"])
                if intent and intent["payment_method"]:
                    subscription["default_payment_method"] = intent["payment_method"]


def payment_failed(world: World, invoice: Obj) -> None:
    """Set the next attempt, or do what is set for after the last one."""
    now = world.now_for(invoice["customer"])
    subscription = invoices.subscription_of(world, invoice)
    first = invoice.setdefault("_first_failure", now)
    days = world.settings.retry_days
    retries = (
        subscription is not None
        and invoice["billing_reason"] != "subscription_create"
        and invoice["auto_advance"]
    )
    tries = invoice["attempt_count"] - 1
    invoice["next_payment_attempt"] = first + days[tries] * DAY if retries and tries < len(days) else None
    world.emit("invoice.updated", invoice, previous={"attempt_count": tries})
    world.emit("invoice.payment_failed", invoice)
    customer = world.store.get("customer", invoice["customer"])
    if not customer["delinquent"]:
        with world.updating(customer, "customer.updated"):
            customer["delinquent"] = True
    if subscription is None or subscription["status"] in (*lifecycle.ENDED, "incomplete"):
        return
    with world.updating(subscription, "customer.subscription.updated"):
        if subscription["status"] in ("active", "trialing"):
            subscription["status"] = "past_due"
        if retries and tries >= len(days) and world.settings.after_retries == "unpaid":
            subscription["status"] = "unpaid"
    if retries and tries >= len(days) and world.settings.after_retries == "cancel":
        lifecycle.cancel(world, subscription, reason="payment_failed")


invoices.ON_PAID.append(payment_came)
invoices.ON_FAILED.append(payment_failed)
