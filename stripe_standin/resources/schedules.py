"""Subscription schedules: phases that begin at the end of a period, the way in which a downgrade waits for it.

Only that: a phase that would begin in the middle of a period is refused, and schedules are made from subscriptions.
"""

from datetime import UTC, datetime
from typing import Any

from dateutil.relativedelta import relativedelta

from stripe_standin import lifecycle, planning
from stripe_standin.errors import invalid, needed
from stripe_standin.params import Params
from stripe_standin.planning import ItemChange
from stripe_standin.render import shown, view
from stripe_standin.routing import route
from stripe_standin.shapes import new
from stripe_standin.store import Obj
from stripe_standin.world import World

_KIND = "subscription_schedule"
_ENDS = ("release", "cancel")


@view(_KIND)
def _view(world: World, schedule: Obj) -> Obj:
    for phase in schedule["phases"]:
        phase["default_tax_rates"] = [
            shown(world, world.store.get("tax_rate", each)) for each in phase["default_tax_rates"]
        ]
    return schedule


@route("POST", "/v1/subscription_schedules")
def create(world: World, params: Params) -> Obj:
    source = params.text("from_subscription")
    if not source:
        raise needed("from_subscription")
    subscription = world.store.named("subscription", source, "from_subscription")
    if subscription["schedule"]:
        raise invalid("The subscription is already managed by a schedule.", param="from_subscription")
    items = planning.items_of(world, subscription)
    start = min(item["current_period_start"] for item in items)
    phase = _phase(subscription, start, max(item["current_period_end"] for item in items))
    phase["items"] = [
        _item(item["price"], item.get("quantity"), item["metadata"], item["tax_rates"]) for item in items
    ]
    schedule = new(
        _KIND,
        id=world.store.new_id("sub_sched"),
        application=None,
        billing_mode=subscription["billing_mode"],
        canceled_at=None,
        completed_at=None,
        created=world.now_for(subscription["customer"]),
        current_phase={"start_date": phase["start_date"], "end_date": phase["end_date"]},
        customer=subscription["customer"],
        default_settings=_defaults(subscription),
        end_behavior="release",
        metadata=params.metadata(),
        phases=[phase],
        released_at=None,
        released_subscription=None,
        status="active",
        subscription=source,
        test_clock=subscription["test_clock"],
    )
    world.store.add(schedule)
    subscription["schedule"] = schedule["id"]
    world.emit("subscription_schedule.created", schedule)
    return schedule


def _defaults(subscription: Obj) -> Obj:
    return {
        "application_fee_percent": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": "automatic",
        "billing_thresholds": None,
        "collection_method": subscription["collection_method"],
        "default_payment_method": None,
        "description": None,
        "invoice_settings": {"account_tax_ids": None, "days_until_due": None, "issuer": {"type": "self"}},
        "on_behalf_of": None,
        "transfer_data": None,
    }


def _phase(subscription: Obj, start: int, end: int) -> Obj:
    nothing = (
        "application_fee_percent billing_cycle_anchor billing_thresholds collection_method default_payment_method"
        " description invoice_settings on_behalf_of transfer_data trial_end"
    )
    return {
        **dict.fromkeys(nothing.split()),
        "add_invoice_items": [],
        "currency": subscription["currency"],
        "default_tax_rates": [],
        "discounts": [],
        "end_date": end,
        "items": [],
        "metadata": {},
        "proration_behavior": "create_prorations",
        "start_date": start,
    }


def _item(price: str, quantity: int | None, metadata: dict[str, str], tax_rates: list[str]) -> Obj:
    counted = {} if quantity is None else {"quantity": quantity}
    return {
        "billing_thresholds": None,
        "discounts": [],
        "metadata": metadata,
        "price": price,
        "tax_rates": tax_rates,
        **counted,
    }


@route("GET", "/v1/subscription_schedules")
def listed(world: World, params: Params) -> Obj:
    return world.page("/v1/subscription_schedules", world.filtered(_KIND, params, "customer"), params)


@route("GET", "/v1/subscription_schedules/{id}")
def retrieve(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get(_KIND, identifier)


@route("POST", "/v1/subscription_schedules/{id}")
def update(world: World, params: Params, identifier: str) -> Obj:
    schedule = _active(world, identifier)
    subscription = world.store.get("subscription", schedule["subscription"])
    params.text("proration_behavior")
    with world.updating(schedule, "subscription_schedule.updated"):
        schedule["metadata"] = params.metadata(schedule["metadata"])
        schedule["end_behavior"] = params.choice("end_behavior", _ENDS, schedule["end_behavior"])
        if "phases" in params:
            schedule["phases"] = _phases(world, params, schedule, subscription)
        if schedule["end_behavior"] == "cancel":
            subscription["cancel_at"] = schedule["phases"][-1]["end_date"]
    return schedule


def _phases(world: World, params: Params, schedule: Obj, subscription: Obj) -> list[Obj]:
    made: list[Obj] = []
    start = schedule["phases"][0]["start_date"]
    boundary = max(item["current_period_end"] for item in planning.items_of(world, subscription))
    for each in params.items("phases"):
        start = each.number("start_date") or start
        phase = _phase(subscription, start, _end(each, start))
        if made and start < boundary:
            raise invalid("The stand-in begins phases at the end of a period only.", param="phases")
        phase["proration_behavior"] = each.text("proration_behavior", "create_prorations")
        phase["metadata"] = each.metadata()
        phase["default_tax_rates"] = each.texts("default_tax_rates")
        phase["items"] = [_read_item(world, item) for item in each.items("items")]
        made.append(phase)
        start = phase["end_date"]
    return made


def _end(params: Params, start: int) -> int:
    if "duration" in params:
        duration = params.sub("duration")
        unit, count = duration.required("interval"), duration.number("interval_count", 1) or 1
        step: dict[str, Any] = {f"{unit}s": count}
        return int((datetime.fromtimestamp(start, UTC) + relativedelta(**step)).timestamp())
    end = params.number("end_date")
    if end is None:
        raise invalid(
            "The last phase needs an `end_date` or a `duration`.", param="phases", code="parameter_missing"
        )
    return end


def _read_item(world: World, params: Params) -> Obj:
    price = world.store.named("price", params.required("price"), "phases[items][price]")
    quantity = params.number("quantity", None if planning.metered(price) else 1)
    return _item(price["id"], quantity, params.metadata(), params.texts("tax_rates"))


def _active(world: World, identifier: str) -> Obj:
    schedule = world.store.get(_KIND, identifier)
    if schedule["status"] not in ("active", "not_started"):
        raise invalid(f"This schedule is {schedule['status']}.")
    return schedule


@route("POST", "/v1/subscription_schedules/{id}/release")
def release(world: World, params: Params, identifier: str) -> Obj:
    """The subscription goes on as it is."""
    schedule = _active(world, identifier)
    params.flag("preserve_cancel_date")
    _let_go(world, schedule)
    return schedule


def _let_go(world: World, schedule: Obj) -> None:
    subscription = world.store.get("subscription", schedule["subscription"])
    now = world.now_for(schedule["customer"])
    schedule |= {
        "status": "released",
        "released_at": now,
        "released_subscription": schedule["subscription"],
        "subscription": None,
        "current_phase": None,
    }
    with world.updating(subscription, "customer.subscription.updated"):
        subscription["schedule"] = None
    world.emit("subscription_schedule.released", schedule)


@route("POST", "/v1/subscription_schedules/{id}/cancel")
def cancel(world: World, params: Params, identifier: str) -> Obj:
    """Ends the subscription too."""
    schedule = _active(world, identifier)
    subscription = world.store.get("subscription", schedule["subscription"])
    usage, prorate = params.flag("invoice_now", default=True), params.flag("prorate", default=True)
    lifecycle.cancel(
        world, subscription, reason="cancellation_requested", invoice_usage=usage, prorate=prorate
    )
    schedule |= {
        "status": "canceled",
        "canceled_at": world.now_for(schedule["customer"]),
        "current_phase": None,
    }
    world.emit("subscription_schedule.canceled", schedule)
    return schedule


def _enter_phase(world: World, subscription: Obj, at: int) -> None:
    """At a period's end: the items of the phase that begins now; after the last phase the schedule lets go."""
    schedule = world.store.peek(_KIND, subscription["schedule"])
    if schedule is None:
        return
    phase = next((each for each in schedule["phases"] if each["start_date"] == at), None)
    if phase is None:
        if schedule["phases"][-1]["end_date"] <= at and schedule["end_behavior"] == "release":
            _let_go(world, schedule)
        return
    known = {item["price"]: item for item in planning.items_of(world, subscription)}
    wanted = {each["price"]: each for each in phase["items"]}
    for price, item in known.items():
        if price not in wanted:
            world.store.remove(item)
    for price, each in wanted.items():
        if price in known:
            if "quantity" in each:
                known[price]["quantity"] = each["quantity"]
            continue
        change = ItemChange(
            price=price, quantity=each.get("quantity"), metadata=each["metadata"], tax_rates=each["tax_rates"]
        )
        world.store.add(planning.new_item(world, subscription, change, at))
    subscription["metadata"] = subscription["metadata"] | phase["metadata"]
    schedule["current_phase"] = {"start_date": phase["start_date"], "end_date": phase["end_date"]}
    world.emit("subscription_schedule.updated", schedule, previous={})


lifecycle.ON_PERIOD_END.append(_enter_phase)
