"""What a change of a subscription costs, without making it: the update charges what the preview showed because both ask here."""

from dataclasses import dataclass, field, replace
from typing import Any

from stripe_standin import invoicing, pricing, usage
from stripe_standin.errors import invalid
from stripe_standin.invoicing import Line
from stripe_standin.shapes import new
from stripe_standin.store import Obj
from stripe_standin.world import World


@dataclass(frozen=True)
class ItemChange:
    """`id` None adds an item. None elsewhere leaves as it is."""

    id: str | None = None
    price: str | None = None
    quantity: int | None = None
    deleted: bool = False
    clear_usage: bool = False
    metadata: dict[str, str] | None = None
    tax_rates: list[str] | None = None


@dataclass(frozen=True)
class Change:
    items: list[ItemChange] = field(default_factory=list)
    behavior: str = "create_prorations"
    at: int = 0
    anchor_now: bool = False
    trial_end: int | None = None  # 0: ends now


@dataclass
class Plan:
    """`lines`: prorations and usage. `period_lines`: a new period that starts now, invoiced at once."""

    items: list[Obj]
    lines: list[Line] = field(default_factory=list)
    period_lines: list[Line] = field(default_factory=list)
    anchor: int | None = None  # the new billing cycle anchor
    trial_end: int | None = None
    at_once: bool = False


def price_of(world: World, item: Obj) -> Obj:
    return world.store.get("price", item["price"])


def product_of(world: World, price: Obj) -> Obj:
    return world.store.get("product", price["product"])


def metered(price: Obj) -> bool:
    return bool(price["recurring"] and price["recurring"]["usage_type"] == "metered")


def items_of(world: World, subscription: Obj) -> list[Obj]:
    return list(world.store.where("subscription_item", subscription=subscription["id"]))


def flexible(subscription: Obj) -> bool:
    return bool(subscription["billing_mode"]["type"] == "flexible")


# Lines --------------------------------------------------------------------------------------------------------------


def _common(subscription: Obj, item: Obj) -> dict[str, Any]:
    return {
        "item": item["id"],
        "subscription": subscription["id"],
        "tax_rates": tuple(item["tax_rates"] or ()),
    }


def period_lines(world: World, subscription: Obj, item: Obj, start: int, end: int) -> list[Line]:
    """A licensed item's fee for a whole period."""
    price = price_of(world, item)
    return invoicing.charge_lines(
        price, product_of(world, price), item.get("quantity", 1), start, end, **_common(subscription, item)
    )


def usage_lines(world: World, subscription: Obj, item: Obj, end: int) -> list[Line]:
    """A metered item's usage since it was last billed, up to `end`."""
    price = price_of(world, item)
    start = item["_usage_from"]
    meter = price["recurring"]["meter"]
    used = usage.quantity(world, meter, subscription["customer"], start, end)
    lines = invoicing.charge_lines(
        price, product_of(world, price), used, start, end, **_common(subscription, item)
    )
    return [replace(line, usage=True) for line in lines]


def partial_lines(world: World, subscription: Obj, item: Obj, start: int, end: int) -> list[Line]:
    """A licensed item's fee for the part of a period that begins in its middle."""
    price, quantity = price_of(world, item), item.get("quantity", 1)
    whole = pricing.period_after(subscription["billing_cycle_anchor"], price["recurring"], start)
    amount = pricing.share(pricing.total(price, quantity), end - start, whole[1] - whole[0])
    return [
        invoicing.proration_line(
            "Remaining time on",
            amount,
            price,
            product_of(world, price),
            quantity,
            start,
            end,
            **_common(subscription, item),
        )
    ]


def credit_lines(world: World, subscription: Obj, item: Obj, at: int) -> list[Line]:
    """What was paid for the time that is left: of the amount once charged, by seconds."""
    paid, price = item.get("_debit"), price_of(world, item)
    if not paid or not paid["amount"] or at >= paid["end"]:
        return []
    amount = -pricing.share(paid["amount"], paid["end"] - at, paid["end"] - paid["start"])
    return [
        invoicing.proration_line(
            "Unused time on",
            amount,
            price,
            product_of(world, price),
            item.get("quantity", 1),
            at,
            paid["end"],
            **_common(subscription, item),
        )
    ]


# Changes ------------------------------------------------------------------------------------------------------------


def plan(world: World, subscription: Obj, change: Change) -> Plan:
    before = [dict(item) for item in items_of(world, subscription)]
    after = _changed_items(world, subscription, before, change)
    made = Plan(items=after)
    trialing = subscription["status"] == "trialing"
    if change.trial_end is not None:
        _move_trial(world, subscription, change, made)
    elif trialing:
        return made
    elif change.anchor_now or _interval_changed(world, before, after):
        _restart(world, subscription, before, change, made)
    else:
        _prorate(world, subscription, before, change, made)
    if change.behavior == "always_invoice" and made.lines:
        made.at_once = True
    return made


def _changed_items(world: World, subscription: Obj, before: list[Obj], change: Change) -> list[Obj]:
    after = {item["id"]: dict(item) for item in before}
    for each in change.items:
        if each.id is None:
            made = new_item(world, subscription, each, change.at)
            after[made["id"]] = made
        elif each.id not in after:
            raise invalid(f"No such subscription item: '{each.id}'", param="items", code="resource_missing")
        elif each.deleted:
            del after[each.id]
        else:
            _change_item(world, after[each.id], each)
    if not after:
        raise invalid("A subscription must have at least one active item.", param="items")
    meters = [price_of(world, item)["id"] for item in after.values()]
    if len(set(meters)) < len(meters):
        raise invalid("Cannot add multiple subscription items with the same price.", param="items")
    return list(after.values())


def _change_item(world: World, item: Obj, change: ItemChange) -> None:
    if change.price:
        item["price"] = world.store.named("price", change.price, "items[price]")["id"]
    price = price_of(world, item)
    if metered(price):
        if change.quantity is not None:
            raise invalid("You cannot set the quantity for metered plans.", param="items[quantity]")
        item.pop("quantity", None)
    else:
        item["quantity"] = item.get("quantity", 1) if change.quantity is None else change.quantity
    if change.metadata is not None:
        item["metadata"] = change.metadata
    if change.tax_rates is not None:
        item["tax_rates"] = change.tax_rates


def new_item(world: World, subscription: Obj, change: ItemChange, at: int) -> Obj:
    """Not stored. Its period is the one of the subscription's anchor that holds `at`."""
    price = world.store.named("price", change.price or "", "items[price]")
    if not price["recurring"]:
        raise invalid(
            "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`.",
            param="items[price]",
        )
    if not price["active"]:
        raise invalid(
            "The price specified is inactive. This field only accepts active prices.", param="items[price]"
        )
    if price["currency"] != subscription["currency"]:
        raise invalid("All prices on a subscription must have the same currency.", param="items[price]")
    start, end = pricing.period_after(subscription["billing_cycle_anchor"], price["recurring"], at)
    if subscription["status"] == "trialing" and subscription["trial_end"]:
        start, end = at, subscription["trial_end"]
    item = new(
        "subscription_item",
        id=world.store.new_id("si"),
        created=at,
        current_period_start=max(start, subscription["start_date"]),
        current_period_end=end,
        price=price["id"],
        quantity=1,
        subscription=subscription["id"],
        _usage_from=at,
        _debit=None,
    )
    _change_item(world, item, replace(change, price=None))
    return item


def _interval_changed(world: World, before: list[Obj], after: list[Obj]) -> bool:
    old = {item["id"]: price_of(world, item)["recurring"] for item in before}
    for item in after:
        recurring = price_of(world, item)["recurring"]
        known = old.get(item["id"])
        if known and (known["interval"], known["interval_count"]) != (
            recurring["interval"],
            recurring["interval_count"],
        ):
            return True
    return False


def _prorate(world: World, subscription: Obj, before: list[Obj], change: Change, made: Plan) -> None:
    """Same cycle: credit what goes, charge what comes, for the time that is left."""
    old = {item["id"]: item for item in before}
    kept = {item["id"] for item in made.items}
    cleared = {each.id for each in change.items if each.clear_usage}
    for item in before:
        if item["id"] not in kept:
            made.lines += _leaving(world, subscription, item, change, clear=item["id"] in cleared)
    for item in made.items:
        known = old.get(item["id"])
        if known and known["price"] == item["price"] and known.get("quantity") == item.get("quantity"):
            continue
        if known:
            made.lines += _leaving(world, subscription, known, change, clear=item["id"] in cleared)
            if not metered(price_of(world, known)) or flexible(subscription):
                item["_usage_from"] = change.at
        made.lines += _coming(world, subscription, item, change)


def _leaving(world: World, subscription: Obj, item: Obj, change: Change, *, clear: bool) -> list[Line]:
    if metered(price_of(world, item)):
        if clear or not flexible(subscription):
            return []
        return [
            replace(line, usage=False)
            for line in usage_lines(world, subscription, item, change.at)
            if line.amount or line.quantity
        ]
    return [] if change.behavior == "none" else credit_lines(world, subscription, item, change.at)


def _coming(world: World, subscription: Obj, item: Obj, change: Change) -> list[Line]:
    if metered(price_of(world, item)):
        item["_debit"] = None
        return []
    end = item["current_period_end"]
    lines = partial_lines(world, subscription, item, change.at, end)
    item["_debit"] = {"amount": sum(line.amount for line in lines), "start": change.at, "end": end}
    return [] if change.behavior == "none" else lines


def _restart(world: World, subscription: Obj, before: list[Obj], change: Change, made: Plan) -> None:
    """A new cycle starts now: the old one is settled, the new one charged whole, both on an invoice at once."""
    for item in before:
        made.lines += _leaving(world, subscription, item, change, clear=False)
    _open_periods(world, subscription, change.at, made)


def _open_periods(world: World, subscription: Obj, at: int, made: Plan) -> None:
    made.anchor, made.at_once = at, True
    for item in made.items:
        price = price_of(world, item)
        start, end = pricing.period_after(at, price["recurring"], at)
        item |= {"current_period_start": start, "current_period_end": end, "_usage_from": at, "_debit": None}
        if not metered(price):
            lines = period_lines(world, subscription, item, start, end)
            item["_debit"] = {"amount": sum(line.amount for line in lines), "start": start, "end": end}
            made.period_lines += lines


def _move_trial(world: World, subscription: Obj, change: Change, made: Plan) -> None:
    end = change.trial_end or 0
    if end and end <= change.at:
        raise invalid(
            "Invalid timestamp: must be an integer Unix timestamp in the future.", param="trial_end"
        )
    if end:
        made.trial_end, made.anchor = end, end
        for item in made.items:
            item |= {
                "current_period_start": change.at,
                "current_period_end": end,
                "_usage_from": end,
                "_debit": None,
            }
        return
    made.trial_end = change.at
    _open_periods(world, subscription, change.at, made)
