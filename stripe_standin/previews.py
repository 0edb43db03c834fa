"""Invoices as they would be: nothing is stored, nobody is told."""

from collections.abc import Iterable

from stripe_standin import invoices, invoicing, lifecycle, planning, pricing
from stripe_standin.invoicing import Line
from stripe_standin.planning import Change, Plan, items_of, metered, price_of
from stripe_standin.render import listing, shown
from stripe_standin.store import Obj
from stripe_standin.world import World


def _built(world: World, invoice: Obj, lines: Iterable[Line]) -> Obj:
    invoice["id"] = f"upcoming_{invoice['id']}"
    stored = [invoicing.line_item(line, world.store.new_id("il"), invoice["id"]) for line in lines]
    invoices.total(world, invoice, stored)
    due = invoice["total"] + invoice["starting_balance"]
    invoice |= {
        "ending_balance": min(due, 0),
        "lines": listing(f"/v1/invoices/{invoice['id']}/lines", [shown(world, each) for each in stored]),
    }
    return invoice


def upcoming(
    world: World,
    subscription: Obj,
    plan: Plan | None = None,
    extra: Iterable[Line] = (),
    *,
    prorations: bool = True,
) -> Obj:
    """The renewal's invoice as it stands: waiting items, the next period's fees, usage until now."""
    now = world.now_for(subscription["customer"])
    customer = world.store.get("customer", subscription["customer"])
    items = plan.items if plan else items_of(world, subscription)
    end = min(item["current_period_end"] for item in items)
    fees: list[Line] = []
    used: list[Line] = []
    ends = subscription["cancel_at_period_end"]
    for item in (each for each in items if each["current_period_end"] == end):
        price = price_of(world, item)
        if metered(price):
            used += planning.usage_lines(world, subscription, item, end)
        elif not ends:
            start, until = pricing.period_after(subscription["billing_cycle_anchor"], price["recurring"], end)
            fees += planning.period_lines(world, subscription, item, start, until)
    invoice = invoices.blank(
        world,
        customer,
        reason="upcoming",
        currency=subscription["currency"],
        at=now,
        subscription=subscription,
    )
    start = min(item["current_period_start"] for item in items)
    invoice |= {
        "billing_reason": "subscription_cycle",
        "period_start": start,
        "period_end": end,
        "next_payment_attempt": end + world.settings.draft_seconds,
    }
    waiting = (
        lifecycle.pending_lines(world, customer["id"], subscription["id"], subscription["currency"])
        if prorations
        else []
    )
    planned = plan.lines if plan and prorations else []
    return _built(world, invoice, [*waiting, *planned, *extra, *fees, *used])


def changed(
    world: World, subscription: Obj, change: Change, extra: list[Line], *, recurring: bool = False
) -> Obj:
    """What an update would invoice: at once, or with the next renewal."""
    plan = planning.plan(world, subscription, change)
    customer = world.store.get("customer", subscription["customer"])
    if not plan.at_once or recurring:
        return upcoming(world, subscription, plan, extra, prorations=not recurring)
    invoice = invoices.blank(
        world,
        customer,
        reason="subscription_update",
        currency=subscription["currency"],
        at=change.at,
        subscription=subscription,
    )
    if invoice["parent"]:
        invoice["parent"]["subscription_details"]["subscription_proration_date"] = change.at
    waiting = lifecycle.pending_lines(world, customer["id"], subscription["id"], subscription["currency"])
    return _built(world, invoice, [*waiting, *plan.lines, *extra, *plan.period_lines])


def fresh(world: World, customer: Obj, subscription: Obj, lines: Iterable[Line]) -> Obj:
    """The first invoice of a subscription that does not exist yet, or (without lines of one) of waiting items alone."""
    now = world.now_for(customer["id"])
    invoice = invoices.blank(
        world, customer, reason="subscription_create", currency=subscription["currency"], at=now
    )
    invoice["default_tax_rates"] = list(subscription["default_tax_rates"])
    waiting = lifecycle.pending_lines(world, customer["id"], None, subscription["currency"])
    return _built(world, invoice, [*waiting, *lines])
