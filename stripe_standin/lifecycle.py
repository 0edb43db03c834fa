"""The life of a subscription: start, change, renewal, failed payments, pause, end."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from stripe_standin import invoices, invoicing, payments, planning, pricing
from stripe_standin.cards import of as card_of
from stripe_standin.errors import StripeError, invalid
from stripe_standin.invoicing import Line
from stripe_standin.planning import Change, ItemChange, items_of, metered, price_of
from stripe_standin.render import listing, shown, view
from stripe_standin.shapes import new
from stripe_standin.store import Obj
from stripe_standin.world import World

ENDED = ("canceled", "incomplete_expired")
# What changes a subscription between two periods: after the old one's usage, before the new one's fees.
ON_PERIOD_END: list[Callable[[World, Obj, int], None]] = []


@view("subscription")
def _view(world: World, subscription: Obj) -> Obj:
    found = [
        shown(world, item) for item in world.store.where("subscription_item", subscription=subscription["id"])
    ]
    subscription["items"] = listing(f"/v1/subscription_items?subscription={subscription['id']}", found)
    subscription["default_tax_rates"] = [
        shown(world, world.store.get("tax_rate", each)) for each in subscription["default_tax_rates"] or []
    ]
    return subscription


@view("subscription_item")
def _item_view(world: World, item: Obj) -> Obj:
    item["price"] = shown(world, world.store.get("price", item["price"]))
    item["tax_rates"] = [shown(world, world.store.get("tax_rate", each)) for each in item["tax_rates"] or []]
    return item


# Pending invoice items ----------------------------------------------------------------------------------------------


def make_invoice_item(world: World, customer: Obj, line: Line, **fields: Any) -> Obj:
    """A line that waits for the next invoice of its subscription (or of the customer)."""
    parent = None
    if line.subscription:
        details = {"subscription": line.subscription, "subscription_item": line.item}
        parent = {
            "type": "subscription_details",
            "subscription_details": {k: v for k, v in details.items() if v},
        }
    item = new(
        "invoiceitem",
        id=world.store.new_id("ii"),
        amount=line.amount,
        currency=line.currency,
        customer=customer["id"],
        date=world.now_for(customer["id"]),
        description=line.description,
        discountable=line.discountable and not line.proration,
        metadata=line.metadata,
        net_amount=line.amount,
        parent=parent,
        period={"start": line.start, "end": line.end},
        pricing=invoicing.priced(line),
        proration=line.proration,
        quantity=line.quantity or 0,
        quantity_decimal=str(line.quantity or 0),
        tax_rates=list(line.tax_rates),
        test_clock=customer["test_clock"],
    )
    item |= fields
    kept = replace(line, invoice_item=item["id"], usage=False)
    item["_line"] = {**kept.__dict__, "tax_rates": list(kept.tax_rates)}
    world.store.add(item)
    world.emit("invoiceitem.created", item)
    return item


def pending_lines(world: World, customer: str, subscription: str | None, currency: str) -> list[Line]:
    """Waiting items that the next invoice takes: the subscription's own, and those of the customer in general."""
    found = [
        invoicing.stored_line(item)
        for item in world.store.where("invoiceitem", customer=customer, invoice=None)
        if item["currency"] == currency
    ]
    return [line for line in found if line.subscription in (None, subscription)]


# Start --------------------------------------------------------------------------------------------------------------


def start(
    world: World,
    customer: Obj,
    fields: Obj,
    items: list[ItemChange],
    *,
    trial_end: int | None = None,
    anchor: int | None = None,
    behavior: str = "create_prorations",
    payment_behavior: str = "allow_incomplete",
    extra: Iterable[Line] = (),
) -> Obj:
    """A new subscription with its first invoice (none when there is nothing to write on it)."""
    now = world.now_for(customer["id"])
    subscription = _blank(world, customer, items, now, trial_end, anchor) | fields
    currency = subscription["currency"]
    made = [planning.new_item(world, subscription, each, now) for each in items]
    lines = [
        *first_lines(world, subscription, made, now, behavior),
        *pending_lines(world, customer["id"], subscription["id"], currency),
        *extra,
    ]
    due = 0 if trial_end else max(sum(line.amount for line in lines) + customer["balance"], 0)
    charges = bool(due) and subscription["collection_method"] == "charge_automatically"
    if payment_behavior == "error_if_incomplete" and charges:
        _must_charge(world, subscription, customer)
    world.store.add(subscription)
    for item in made:
        world.store.add(item)
    if charges:
        subscription["status"] = "incomplete"
    customer["currency"] = customer["currency"] or currency
    world.emit("customer.subscription.created", subscription)
    if lines:
        _first_invoice(
            world, subscription, customer, lines, now, collect=payment_behavior != "default_incomplete"
        )
    return subscription


def _blank(
    world: World, customer: Obj, items: list[ItemChange], now: int, trial_end: int | None, anchor: int | None
) -> Obj:
    if not items:
        raise invalid("Missing required param: items.", param="items", code="parameter_missing")
    currency = world.store.named("price", items[0].price or "", "items[0][price]")["currency"]
    return new(
        "subscription",
        id=world.store.new_id("sub"),
        billing_cycle_anchor=trial_end or anchor or now,
        created=now,
        currency=currency,
        customer=customer["id"],
        start_date=now,
        status="trialing" if trial_end else "active",
        test_clock=customer["test_clock"],
        trial_start=now if trial_end else None,
        trial_end=trial_end,
    )


def first_lines(world: World, subscription: Obj, items: list[Obj], now: int, behavior: str) -> list[Line]:
    lines: list[Line] = []
    for item in items:
        price, end = price_of(world, item), item["current_period_end"]
        if metered(price):
            item["_usage_from"] = subscription["trial_end"] or now
            if not planning.flexible(subscription) and not subscription["trial_end"]:
                lines += [
                    replace(line, amount=0) for line in planning.usage_lines(world, subscription, item, now)
                ]
        elif subscription["trial_end"]:
            product = planning.product_of(world, price)
            whole = planning.period_lines(world, subscription, item, now, end)
            lines.append(
                replace(
                    whole[0],
                    amount=0,
                    unit="0",
                    description=f"Trial period for {product['name']}",
                    quantity=item["quantity"],
                )
            )
        else:
            lines += _first_fee(world, subscription, item, now, end, behavior)
    return lines


def _first_fee(world: World, subscription: Obj, item: Obj, now: int, end: int, behavior: str) -> list[Line]:
    whole = pricing.period_after(
        subscription["billing_cycle_anchor"], price_of(world, item)["recurring"], now
    )
    if whole[0] == now:
        lines = planning.period_lines(world, subscription, item, now, end)
    elif behavior == "none":
        return []
    else:
        lines = planning.partial_lines(world, subscription, item, now, end)
    item["_debit"] = {"amount": sum(line.amount for line in lines), "start": now, "end": end}
    return lines


def _must_charge(world: World, subscription: Obj, customer: Obj) -> None:
    """Refuse before anything is made when the money would not come."""
    chosen = subscription["default_payment_method"] or customer["invoice_settings"]["default_payment_method"]
    method = world.store.peek("payment_method", chosen)
    if method is None:
        raise invalid(
            "This customer has no attached payment source or default payment method. Please consider adding a default payment method.",
            code="resource_missing",
        )
    card = card_of(method["_number"])
    if card.asks:
        text = "The payment method requires an authentication action."
        raise StripeError(402, "card_error", text, code="subscription_payment_intent_requires_action")
    if not card.charges:
        raise payments.declined(method)


def _first_invoice(
    world: World, subscription: Obj, customer: Obj, lines: list[Line], now: int, *, collect: bool
) -> None:
    invoice = invoices.blank(
        world,
        customer,
        reason="subscription_create",
        currency=subscription["currency"],
        at=now,
        subscription=subscription,
    )
    later = subscription["collection_method"] == "send_invoice" and not subscription["trial_end"]
    invoices.create(world, invoice, lines, finalizes_at=now + world.settings.draft_seconds if later else None)
    subscription["latest_invoice"] = invoice["id"]
    if not later:
        invoices.finalize(world, invoice, collect=collect)


# Change -------------------------------------------------------------------------------------------------------------


def update(
    world: World,
    subscription: Obj,
    change: Change,
    *,
    payment_behavior: str = "allow_incomplete",
    extra: Iterable[Line] = (),
) -> None:
    """Carry out what `planning.plan` found; an invoice at once when the plan says so."""
    made = planning.plan(world, subscription, change)
    customer = world.store.get("customer", subscription["customer"])
    ends_trial = made.trial_end is not None and made.trial_end <= change.at
    if ends_trial and subscription["status"] == "trialing" and not _end_trial(world, subscription):
        subscription["trial_end"] = change.at
        return
    if made.at_once and payment_behavior == "error_if_incomplete":
        waiting = pending_lines(world, customer["id"], subscription["id"], subscription["currency"])
        due = (
            sum(line.amount for line in [*made.lines, *made.period_lines, *waiting, *extra])
            + customer["balance"]
        )
        if due > 0:
            _must_charge(world, subscription, customer)
    _replace_items(world, subscription, made.items)
    if made.anchor is not None:
        subscription["billing_cycle_anchor"] = made.anchor
    if made.trial_end is not None:
        _set_trial(world, subscription, made.trial_end, change.at)
    for line in [*made.lines, *extra]:
        make_invoice_item(world, customer, line)
    if made.at_once:
        invoice_now(world, subscription, made.period_lines, change.at, reason="subscription_update")


def _set_trial(world: World, subscription: Obj, end: int, at: int) -> None:
    subscription["trial_end"] = end
    subscription["trial_start"] = subscription["trial_start"] or at
    subscription["status"] = "trialing" if end > at else "active"


def _replace_items(world: World, subscription: Obj, items: list[Obj]) -> None:
    kept = {item["id"] for item in items}
    for item in items_of(world, subscription):
        if item["id"] not in kept:
            world.store.remove(item)
    for item in items:
        world.store.add(item)


def invoice_now(
    world: World, subscription: Obj, lines: Iterable[Line], at: int, *, reason: str
) -> Obj | None:
    """An invoice of what waits and of `lines`, finalised and collected at once."""
    customer = world.store.get("customer", subscription["customer"])
    all_lines = [*pending_lines(world, customer["id"], subscription["id"], subscription["currency"]), *lines]
    if not all_lines:
        return None
    invoice = invoices.blank(
        world, customer, reason=reason, currency=subscription["currency"], at=at, subscription=subscription
    )
    invoices.create(world, invoice, all_lines)
    subscription["latest_invoice"] = invoice["id"]
    return invoices.finalize(world, invoice)


# Renewal ------------------------------------------------------------------------------------------------------------


def renew(world: World, subscription: Obj, at: int) -> None:
    """A period's end: what was used is billed, what comes next too; the invoice stays a draft for a while."""
    if subscription["status"] == "trialing" and not _end_trial(world, subscription):
        return
    customer = world.store.get("customer", subscription["customer"])
    due = [item for item in items_of(world, subscription) if item["current_period_end"] <= at]
    before = min(item["current_period_start"] for item in due)
    with world.updating(subscription, "customer.subscription.updated"):
        used = [
            line
            for item in due
            if metered(price_of(world, item)) and item["_usage_from"] < at
            for line in planning.usage_lines(world, subscription, item, item["current_period_end"])
        ]
        for change in ON_PERIOD_END:
            change(world, subscription, at)
        fees = _open_periods(world, subscription, at)
        invoice = invoices.blank(
            world,
            customer,
            reason="subscription_cycle",
            currency=subscription["currency"],
            at=at,
            subscription=subscription,
        )
        invoice |= {"period_start": before, "period_end": at}
        lines = [
            *pending_lines(world, customer["id"], subscription["id"], subscription["currency"]),
            *fees,
            *used,
        ]
        if lines:
            _cycle_invoice(world, subscription, invoice, lines, at)


def _open_periods(world: World, subscription: Obj, at: int) -> list[Line]:
    """Every item whose period ended gets the next one; the fees of those that begin now."""
    fees: list[Line] = []
    for item in items_of(world, subscription):
        if item["current_period_end"] <= at:
            _next_period(world, subscription, item)
        if item["current_period_start"] == at and not metered(price_of(world, item)):
            fees += _next_fee(world, subscription, item)
    return fees


def _next_period(world: World, subscription: Obj, item: Obj) -> None:
    start, end = pricing.period_after(
        subscription["billing_cycle_anchor"], price_of(world, item)["recurring"], item["current_period_end"]
    )
    item |= {"current_period_start": start, "current_period_end": end, "_usage_from": start}


def _next_fee(world: World, subscription: Obj, item: Obj) -> list[Line]:
    start, end = item["current_period_start"], item["current_period_end"]
    lines = planning.period_lines(world, subscription, item, start, end)
    item["_debit"] = {"amount": sum(line.amount for line in lines), "start": start, "end": end}
    return lines


def _cycle_invoice(world: World, subscription: Obj, invoice: Obj, lines: list[Line], at: int) -> None:
    paused = subscription["pause_collection"]
    kept = (paused and paused["behavior"] == "keep_as_draft") or subscription["status"] == "unpaid"
    invoice["auto_advance"] = not (paused or kept)
    invoices.create(world, invoice, lines, finalizes_at=None if kept else at + world.settings.draft_seconds)
    subscription["latest_invoice"] = invoice["id"]


def finalize_cycle(world: World, invoice: Obj) -> None:
    """The draft's hour is over: late usage is counted in, then it becomes open (or, paused, void or uncollectible)."""
    refresh_usage(world, invoice)
    subscription = invoices.subscription_of(world, invoice)
    paused = subscription["pause_collection"] if subscription else None
    invoices.finalize(world, invoice)
    if paused and invoice["status"] == "open":
        if paused["behavior"] == "void":
            invoices.void(world, invoice)
        elif paused["behavior"] == "mark_uncollectible":
            invoices.write_off(world, invoice)


def refresh_usage(world: World, invoice: Obj) -> None:
    """Compute a draft's usage lines anew: events that came late, with times in its period, belong to it."""
    stored = [line for line in invoices.lines_of(world, invoice["id"]) if line["_line"]["usage"]]
    subscription = invoices.subscription_of(world, invoice)
    stretches = {
        (line["_line"]["item"], line["_line"]["price"], line["_line"]["start"], line["_line"]["end"]): line
        for line in stored
    }
    if not subscription or not stretches:
        return
    for line in stored:
        world.store.remove(line)
    for (item, price, begin, end), line in stretches.items():
        virtual = {"id": item, "price": price, "tax_rates": line["_line"]["tax_rates"], "_usage_from": begin}
        for made in planning.usage_lines(world, subscription, virtual, end):
            invoices.add_line(world, invoice, made)


def _end_trial(world: World, subscription: Obj) -> bool:
    """False when the subscription does not go on: no payment method, and the setting says cancel or pause."""
    customer = world.store.get("customer", subscription["customer"])
    chosen = subscription["default_payment_method"] or customer["invoice_settings"]["default_payment_method"]
    behavior = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
    if (
        not chosen
        and subscription["collection_method"] == "charge_automatically"
        and behavior != "create_invoice"
    ):
        if behavior == "cancel":
            cancel(world, subscription, reason=None)
        else:
            with world.updating(subscription, "customer.subscription.updated"):
                subscription["status"] = "paused"
            world.emit("customer.subscription.paused", subscription)
        return False
    subscription["status"] = "active"
    return True


# End ----------------------------------------------------------------------------------------------------------------


def cancel(
    world: World, subscription: Obj, *, reason: str | None, invoice_usage: bool = False, prorate: bool = False
) -> Obj:
    """End it now. Open invoices are no longer collected by themselves; `invoice_usage` bills what was used and waits."""
    now = world.now_for(subscription["customer"])
    customer = world.store.get("customer", subscription["customer"])
    incomplete = subscription["status"] == "incomplete"
    if prorate:
        for item in items_of(world, subscription):
            for line in planning.credit_lines(world, subscription, item, now):
                make_invoice_item(world, customer, line)
    used: list[Line] = []
    if invoice_usage and subscription["status"] not in ("trialing", "paused", "incomplete"):
        for item in items_of(world, subscription):
            if metered(price_of(world, item)):
                used += [
                    line
                    for line in planning.usage_lines(world, subscription, item, now)
                    if line.quantity or line.amount
                ]
    subscription |= {
        "status": "canceled",
        "canceled_at": subscription["canceled_at"] or now,
        "ended_at": now,
        "cancel_at_period_end": False,
        "pause_collection": None,
    }
    if reason:
        subscription["cancellation_details"]["reason"] = reason
    _stop_collecting(world, subscription, void=incomplete)
    world.emit("customer.subscription.deleted", subscription)
    if invoice_usage:
        _last_invoice(world, subscription, used, now)
    return subscription


def _last_invoice(world: World, subscription: Obj, used: list[Line], now: int) -> None:
    """Usage of the last period stays open for late events as in a renewal; without usage there is only what waits."""
    customer = world.store.get("customer", subscription["customer"])
    lines = [*pending_lines(world, customer["id"], subscription["id"], subscription["currency"]), *used]
    if not lines:
        return
    invoice = invoices.blank(
        world,
        customer,
        reason="subscription_cycle",
        currency=subscription["currency"],
        at=now,
        subscription=subscription,
    )
    invoice["period_start"] = min(line.start for line in lines)
    invoices.create(world, invoice, lines, finalizes_at=now + world.settings.draft_seconds)
    subscription["latest_invoice"] = invoice["id"]


def _stop_collecting(world: World, subscription: Obj, *, void: bool) -> None:
    for invoice in list(world.store.where("invoice", customer=subscription["customer"])):
        if invoices.subscription_of(world, invoice) is not subscription or invoice["status"] not in (
            "draft",
            "open",
        ):
            continue
        if void and invoice["status"] == "open":
            invoices.void(world, invoice)
            continue
        with world.updating(invoice, "invoice.updated"):
            invoice |= {"auto_advance": False, "next_payment_attempt": None}
            if invoice["status"] == "draft":
                invoice["automatically_finalizes_at"] = None


def expire(world: World, subscription: Obj) -> None:
    """The first payment did not come within 23 hours."""
    with world.updating(subscription, "customer.subscription.updated"):
        subscription |= {"status": "incomplete_expired", "ended_at": world.now_for(subscription["customer"])}
    _stop_collecting(world, subscription, void=True)
