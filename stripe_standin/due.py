"""What falls due by itself: renewals, trials, drafts, retries, expiries."""

from functools import partial

from stripe_standin import invoices, lifecycle
from stripe_standin.clock import Due, due
from stripe_standin.planning import items_of
from stripe_standin.previews import upcoming
from stripe_standin.store import Obj
from stripe_standin.world import DAY, World

_EXPIRES_AFTER = 23 * 3600


@due
def _subscriptions(world: World, timeline: str | None) -> list[Due]:
    found: list[Due] = []
    for subscription in world.store.where("subscription", test_clock=timeline):
        if subscription["status"] in (*lifecycle.ENDED, "paused"):
            continue
        found += _of_subscription(world, subscription)
    return found


def _of_subscription(world: World, subscription: Obj) -> list[Due]:
    name = subscription["id"]
    if subscription["status"] == "incomplete":
        return [
            Due(
                subscription["created"] + _EXPIRES_AFTER,
                0,
                name,
                partial(lifecycle.expire, world, subscription),
            )
        ]
    end = min(item["current_period_end"] for item in items_of(world, subscription))
    found: list[Due] = []
    if subscription["cancel_at_period_end"]:
        last = max(item["current_period_end"] for item in items_of(world, subscription))
        found.append(Due(last, 0, name, partial(_end, world, subscription)))
    elif subscription["cancel_at"]:
        found.append(Due(subscription["cancel_at"], 0, name, partial(_end, world, subscription)))
    found.append(Due(end, 1, name, partial(lifecycle.renew, world, subscription, end)))
    if subscription["status"] == "trialing" and subscription.get("_told_trial") != subscription["trial_end"]:
        at = max(subscription["trial_end"] - world.settings.trial_ending_days * DAY, subscription["created"])
        found.append(Due(at, 2, name, partial(_trial_ending, world, subscription)))
    elif (
        subscription.get("_told_upcoming") != end
        and not subscription["cancel_at_period_end"]
        and subscription["status"] == "active"
    ):
        at = end - world.settings.upcoming_days * DAY
        found.append(Due(at, 2, name, partial(_upcoming, world, subscription, end)))
    paused = subscription["pause_collection"]
    if paused and paused["resumes_at"]:
        found.append(Due(paused["resumes_at"], 0, name, partial(_resume, world, subscription)))
    return found


def _end(world: World, subscription: Obj) -> None:
    lifecycle.cancel(world, subscription, reason="cancellation_requested", invoice_usage=True)


def _trial_ending(world: World, subscription: Obj) -> None:
    subscription["_told_trial"] = subscription["trial_end"]
    world.emit("customer.subscription.trial_will_end", subscription)


def _upcoming(world: World, subscription: Obj, end: int) -> None:
    subscription["_told_upcoming"] = end
    if end - world.now_for(subscription["customer"]) > 0:
        preview = upcoming(world, subscription)
        preview.pop("id")  # this event's invoice has none
        world.emit("invoice.upcoming", preview)


def _resume(world: World, subscription: Obj) -> None:
    with world.updating(subscription, "customer.subscription.updated"):
        subscription["pause_collection"] = None


@due
def _invoices(world: World, timeline: str | None) -> list[Due]:
    found: list[Due] = []
    for invoice in world.store.where("invoice", test_clock=timeline):
        name = invoice["id"]
        if invoice["status"] == "draft" and invoice["automatically_finalizes_at"]:
            found.append(
                Due(
                    invoice["automatically_finalizes_at"],
                    3,
                    name,
                    partial(lifecycle.finalize_cycle, world, invoice),
                )
            )
        elif invoice["status"] == "open" and invoice["next_payment_attempt"]:
            found.append(
                Due(invoice["next_payment_attempt"], 4, name, partial(invoices.attempt, world, invoice))
            )
        elif invoice["status"] == "open" and invoice["due_date"] and not invoice.get("_overdue"):
            found.append(Due(invoice["due_date"], 5, name, partial(_overdue, world, invoice)))
    return found


def _overdue(world: World, invoice: Obj) -> None:
    invoice["_overdue"] = True
    world.emit("invoice.overdue", invoice)
    subscription = invoices.subscription_of(world, invoice)
    if subscription and subscription["status"] == "active":
        with world.updating(subscription, "customer.subscription.updated"):
            subscription["status"] = "past_due"


@due
def _sessions(world: World, timeline: str | None) -> list[Due]:
    return [
        Due(session["expires_at"], 6, session["id"], partial(_expire_session, world, session))
        for session in world.store.where("checkout.session", status="open")
        if world.timeline(session["customer"]) == timeline
    ]


def _expire_session(world: World, session: Obj) -> None:
    session |= {"status": "expired", "url": None}
    world.emit("checkout.session.expired", session)
