"""Subscriptions and their items."""

from typing import Any

from stripe_standin import lifecycle, planning
from stripe_standin.errors import invalid
from stripe_standin.invoicing import Line, charge_lines
from stripe_standin.params import Params
from stripe_standin.people import living
from stripe_standin.planning import Change, ItemChange
from stripe_standin.resources.catalogue import make_price
from stripe_standin.resources.coupons import discount_for
from stripe_standin.resources.payment_methods import owned
from stripe_standin.routing import route
from stripe_standin.store import Obj
from stripe_standin.world import DAY, World

_BEHAVIORS = ("create_prorations", "always_invoice", "none")
_PAYMENT = ("allow_incomplete", "default_incomplete", "error_if_incomplete")


# Reading parameters -------------------------------------------------------------------------------------------------


def price_id(world: World, params: Params) -> str | None:
    """`price`, or a price made on the spot from `price_data`."""
    if "price_data" in params:
        data = params.sub("price_data")
        product = world.store.named("product", data.required("product"), "price_data[product]")
        return str(make_price(world, data, product["id"])["id"])
    return params.text("price")


def item_changes(world: World, params: Params) -> list[ItemChange]:
    return [
        ItemChange(
            id=each.text("id"),
            price=price_id(world, each),
            quantity=each.number("quantity"),
            deleted=each.flag("deleted"),
            clear_usage=each.flag("clear_usage"),
            metadata=each.metadata() if "metadata" in each else None,
            tax_rates=each.texts("tax_rates") if "tax_rates" in each else None,
        )
        for each in params.items("items")
    ]


def change_of(world: World, params: Params, subscription: Obj) -> Change:
    """What an update (or the preview of one) asks for."""
    now = world.now_for(subscription["customer"])
    return Change(
        items=item_changes(world, params),
        behavior=params.choice("proration_behavior", _BEHAVIORS, "create_prorations") or "",
        at=params.number("proration_date") or now,
        anchor_now=params.text("billing_cycle_anchor") == "now",
        trial_end=_trial_end(params),
    )


def _trial_end(params: Params) -> int | None:
    value = params.text("trial_end")
    if value is None:
        return None
    return 0 if value == "now" else params.number("trial_end")


def extra_lines(
    world: World, params: Params, name: str, customer: Obj, subscription: str | None
) -> list[Line]:
    """One-off lines given by price or amount: `add_invoice_items`, a preview's `invoice_items`."""
    now = world.now_for(customer["id"])
    found: list[Line] = []
    for each in params.items(name):
        period = each.sub("period")
        start, end = period.number("start") or now, period.number("end") or now
        found += one_off(world, each, subscription, start, end)
    return found


def one_off(world: World, params: Params, subscription: str | None, start: int, end: int) -> list[Line]:
    quantity, rates = params.number("quantity", 1) or 0, tuple(params.texts("tax_rates"))
    chosen = price_id(world, params)
    common: dict[str, Any] = {"subscription": subscription, "tax_rates": rates, "metadata": params.metadata()}
    if chosen:
        price = world.store.named("price", chosen, "price")
        lines = charge_lines(price, planning.product_of(world, price), quantity, start, end, **common)
        text = params.text("description")
        return [
            Line(**line.__dict__ | {"description": text or planning.product_of(world, price)["name"]})
            for line in lines
        ]
    amount = params.number("amount")
    unit = params.text("unit_amount_decimal")
    if amount is None and unit is None:
        raise invalid("You must pass either `amount` or `price`.", param="amount", code="parameter_missing")
    whole = amount if amount is not None else int(unit or 0) * quantity
    currency = params.text("currency", "usd") or "usd"
    return [
        Line(
            amount=whole,
            currency=currency.lower(),
            description=params.text("description"),
            start=start,
            end=end,
            quantity=quantity,
            discountable=params.flag("discountable", default=whole >= 0),
            **common,
        )
    ]


def _fields(world: World, params: Params, customer: str, subscription: Obj | None) -> Obj:
    """Plain fields of a subscription, shared by creation and update."""
    fields: Obj = {}
    for name in ("description", "days_until_due"):
        if name in params:
            fields[name] = params.number(name) if name == "days_until_due" else params.text(name)
    if "collection_method" in params:
        fields["collection_method"] = params.choice(
            "collection_method", ("charge_automatically", "send_invoice")
        )
    if "default_payment_method" in params:
        chosen = params.text("default_payment_method")
        fields["default_payment_method"] = (
            owned(world, chosen, customer, "default_payment_method")["id"] if chosen else None
        )
    if "default_tax_rates" in params:
        rates = params.texts("default_tax_rates")
        fields["default_tax_rates"] = [
            world.store.named("tax_rate", each, "default_tax_rates")["id"] for each in rates
        ]
    if "payment_settings" in params:
        settings = params.sub("payment_settings")
        base = (subscription or {}).get("payment_settings") or {
            "payment_method_options": None,
            "payment_method_types": None,
        }
        types = settings.texts("payment_method_types")
        saves = settings.text("save_default_payment_method", base.get("save_default_payment_method", "off"))
        fields["payment_settings"] = base | {
            "save_default_payment_method": saves,
            "payment_method_types": types or None,
        }
    if "trial_settings" in params:
        behavior = (
            params.sub("trial_settings")
            .sub("end_behavior")
            .choice("missing_payment_method", ("cancel", "create_invoice", "pause"), "create_invoice")
        )
        fields["trial_settings"] = {"end_behavior": {"missing_payment_method": behavior}}
    if "metadata" in params:
        fields["metadata"] = params.metadata((subscription or {}).get("metadata"))
    params.raw("off_session")
    no_stripe_tax(params)
    return fields


def no_stripe_tax(params: Params) -> None:
    if params.sub("automatic_tax").flag("enabled"):
        raise invalid("The stand-in has no Stripe Tax: give tax rates.", param="automatic_tax[enabled]")


def mode(params: Params) -> Obj:
    if "billing_mode" not in params:
        return {"type": "flexible", "flexible": {"proration_discounts": "included"}}
    sent = params.sub("billing_mode")
    kind = sent.choice("type", ("classic", "flexible"), "flexible")
    if kind == "classic":
        return {"type": "classic", "flexible": None}
    return {
        "type": "flexible",
        "flexible": {"proration_discounts": sent.sub("flexible").text("proration_discounts", "included")},
    }


def redeem(world: World, params: Params, **owner: Any) -> list[str]:
    return [discount_for(world, each, **owner)["id"] for each in params.items("discounts")]


# Routes -------------------------------------------------------------------------------------------------------------


@route("POST", "/v1/subscriptions")
def create(world: World, params: Params) -> Obj:
    customer = living(world, params.required("customer"))
    now = world.now_for(customer["id"])
    fields = _fields(world, params, customer["id"], None) | {"billing_mode": mode(params)}
    trial = _trial_end(params) or None
    if days := params.number("trial_period_days"):
        trial = now + days * DAY
    fields["cancel_at_period_end"] = params.flag("cancel_at_period_end")
    fields["cancel_at"] = params.number("cancel_at")
    fields["discounts"] = redeem(world, params, customer=customer["id"])
    params.text("currency")
    subscription = lifecycle.start(
        world,
        customer,
        fields,
        item_changes(world, params),
        trial_end=trial,
        anchor=params.number("billing_cycle_anchor"),
        behavior=params.choice("proration_behavior", _BEHAVIORS, "create_prorations") or "",
        payment_behavior=params.choice("payment_behavior", _PAYMENT, "allow_incomplete") or "",
        extra=extra_lines(world, params, "add_invoice_items", customer, None),
    )
    for each in fields["discounts"]:
        world.store.get("discount", each)["subscription"] = subscription["id"]
    return subscription


@route("GET", "/v1/subscriptions")
def listed(world: World, params: Params) -> Obj:
    found = world.filtered("subscription", params, "customer", "collection_method", "test_clock")
    status = params.text("status")
    if status is None:
        found = [each for each in found if each["status"] not in lifecycle.ENDED]
    elif status == "ended":
        found = [each for each in found if each["status"] in lifecycle.ENDED]
    elif status != "all":
        found = [each for each in found if each["status"] == status]
    if price := params.text("price"):
        found = [
            each for each in found if any(item["price"] == price for item in planning.items_of(world, each))
        ]
    if "test_clock" not in params and "customer" not in params:
        found = [each for each in found if not each["test_clock"]]
    return world.page("/v1/subscriptions", found, params)


@route("GET", "/v1/subscriptions/{id}")
def retrieve(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get("subscription", identifier)


@route("POST", "/v1/subscriptions/{id}")
def update(world: World, params: Params, identifier: str) -> Obj:
    subscription = world.store.get("subscription", identifier)
    if subscription["status"] in lifecycle.ENDED:
        allowed = {"metadata", "cancellation_details", "expand"}
        if params.names() - allowed:
            raise invalid("A canceled subscription can only update its cancellation_details and metadata.")
    customer = world.store.get("customer", subscription["customer"])
    change = change_of(world, params, subscription)
    with world.updating(subscription, "customer.subscription.updated"):
        subscription |= _fields(world, params, customer["id"], subscription)
        _ending(world, subscription, params)
        if "pause_collection" in params:
            paused = params.sub("pause_collection")
            behavior = paused.choice("behavior", ("keep_as_draft", "mark_uncollectible", "void"))
            resumes = paused.number("resumes_at")
            subscription["pause_collection"] = (
                {"behavior": behavior, "resumes_at": resumes} if behavior else None
            )
        if "discounts" in params:
            subscription["discounts"] = redeem(
                world, params, customer=customer["id"], subscription=identifier
            )
        extra = extra_lines(world, params, "add_invoice_items", customer, identifier)
        payment_behavior = params.choice("payment_behavior", _PAYMENT, "allow_incomplete") or ""
        if change.items or change.anchor_now or change.trial_end is not None or extra:
            lifecycle.update(world, subscription, change, payment_behavior=payment_behavior, extra=extra)
    return subscription


def _ending(world: World, subscription: Obj, params: Params) -> None:
    """Set an end, or take one back."""
    now = world.now_for(subscription["customer"])
    if "cancellation_details" in params:
        details = params.sub("cancellation_details")
        for name in ("comment", "feedback"):
            if name in details:
                subscription["cancellation_details"][name] = details.text(name)
    if "cancel_at_period_end" in params:
        set_ending(world, subscription, at_period_end=params.flag("cancel_at_period_end"))
    if "cancel_at" in params:
        text = params.text("cancel_at")
        ends = [item["current_period_end"] for item in planning.items_of(world, subscription)]
        at = {"min_period_end": min(ends), "max_period_end": max(ends)}.get(text or "") or params.number(
            "cancel_at"
        )
        subscription |= {"cancel_at": at, "cancel_at_period_end": False, "canceled_at": now if at else None}
        subscription["cancellation_details"]["reason"] = "cancellation_requested" if at else None


def set_ending(world: World, subscription: Obj, *, at_period_end: bool) -> None:
    end = max(item["current_period_end"] for item in planning.items_of(world, subscription))
    subscription |= {
        "cancel_at_period_end": at_period_end,
        "cancel_at": end if at_period_end else None,
        "canceled_at": world.now_for(subscription["customer"]) if at_period_end else None,
    }
    subscription["cancellation_details"]["reason"] = "cancellation_requested" if at_period_end else None


@route("DELETE", "/v1/subscriptions/{id}")
def cancel(world: World, params: Params, identifier: str) -> Obj:
    subscription = world.store.get("subscription", identifier)
    if subscription["status"] in lifecycle.ENDED:
        raise invalid(f"No such subscription: {identifier}", code="resource_missing", status=404)
    details = params.sub("cancellation_details")
    subscription["cancellation_details"] |= {
        "comment": details.text("comment"),
        "feedback": details.text("feedback"),
    }
    return lifecycle.cancel(
        world,
        subscription,
        reason="cancellation_requested",
        invoice_usage=params.flag("invoice_now"),
        prorate=params.flag("prorate"),
    )


@route("POST", "/v1/subscriptions/{id}/resume")
def resume(world: World, params: Params, identifier: str) -> Obj:
    """From `paused` (a trial that ended without a card): a new period starts now unless told otherwise."""
    subscription = world.store.get("subscription", identifier)
    if subscription["status"] != "paused":
        raise invalid("Only subscriptions with the `paused` status can be resumed.")
    params.text("billing_cycle_anchor")
    params.text("proration_behavior")
    now = world.now_for(subscription["customer"])
    with world.updating(subscription, "customer.subscription.updated"):
        subscription["status"] = "active"
        lifecycle.update(world, subscription, Change(behavior="none", at=now, anchor_now=True))
    world.emit("customer.subscription.resumed", subscription)
    return subscription


# Items --------------------------------------------------------------------------------------------------------------


@route("GET", "/v1/subscription_items")
def items(world: World, params: Params) -> Obj:
    found = list(world.store.where("subscription_item", subscription=params.required("subscription")))
    return world.page("/v1/subscription_items", found[::-1], params)


@route("GET", "/v1/subscription_items/{id}")
def item(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get("subscription_item", identifier)


def _change_items(world: World, params: Params, subscription: Obj, changes: list[ItemChange]) -> None:
    base = change_of(world, params, subscription)
    behavior = params.choice("payment_behavior", _PAYMENT, "allow_incomplete") or ""
    with world.updating(subscription, "customer.subscription.updated"):
        change = Change(items=changes, behavior=base.behavior, at=base.at)
        lifecycle.update(world, subscription, change, payment_behavior=behavior)


@route("POST", "/v1/subscription_items")
def create_item(world: World, params: Params) -> Obj:
    subscription = world.store.named("subscription", params.required("subscription"), "subscription")
    before = {each["id"] for each in planning.items_of(world, subscription)}
    change = ItemChange(
        price=price_id(world, params), quantity=params.number("quantity"), metadata=params.metadata()
    )
    _change_items(world, params, subscription, [change])
    return next(each for each in planning.items_of(world, subscription) if each["id"] not in before)


@route("POST", "/v1/subscription_items/{id}")
def update_item(world: World, params: Params, identifier: str) -> Obj:
    found = world.store.get("subscription_item", identifier)
    subscription = world.store.get("subscription", found["subscription"])
    metadata = params.metadata(found["metadata"])
    change = ItemChange(
        id=identifier, price=price_id(world, params), quantity=params.number("quantity"), metadata=metadata
    )
    _change_items(world, params, subscription, [change])
    return world.store.get("subscription_item", identifier)


@route("DELETE", "/v1/subscription_items/{id}")
def delete_item(world: World, params: Params, identifier: str) -> Obj:
    found = world.store.get("subscription_item", identifier)
    subscription = world.store.get("subscription", found["subscription"])
    change = ItemChange(id=identifier, deleted=True, clear_usage=params.flag("clear_usage"))
    _change_items(world, params, subscription, [change])
    return {"id": identifier, "object": "subscription_item", "deleted": True}
