"""Checkout sessions. The page is in `pages/checkout.py`; what paying there does is `complete`."""

from decimal import Decimal
from typing import Any
from urllib.parse import quote

from stripe_standin import cards, lifecycle, payments, planning, pricing
from stripe_standin.errors import StripeError, invalid, needed
from stripe_standin.invoicing import charge_lines, discounted
from stripe_standin.params import Params
from stripe_standin.people import living
from stripe_standin.planning import ItemChange
from stripe_standin.render import listing, on_expand, shown
from stripe_standin.resources.catalogue import create_price
from stripe_standin.resources.coupons import discount_for
from stripe_standin.resources.customers import add_tax_id
from stripe_standin.resources.payment_methods import confirm_setup, make_setup
from stripe_standin.resources.subscriptions import mode, no_stripe_tax, price_id
from stripe_standin.routing import route
from stripe_standin.shapes import new
from stripe_standin.store import Obj
from stripe_standin.world import DAY, World

_KIND = "checkout.session"
_TEXTS = ("success_url", "cancel_url", "client_reference_id", "customer_email", "locale", "submit_type")
# How the page looks and words things there; taken and not obeyed.
_LOOKS = (
    "consent_collection",
    "custom_text",
    "saved_payment_method_options",
    "payment_method_options",
    "branding_settings",
)
_MODES = ("payment", "setup", "subscription")


@route("POST", "/v1/checkout/sessions")
def create(world: World, params: Params) -> Obj:
    kind = params.choice("mode", _MODES) or "payment"
    customer = params.text("customer")
    now = world.now_for(living(world, customer)["id"] if customer else None)
    if "success_url" not in params and params.text("ui_mode", "hosted_page") == "hosted_page":
        raise needed("success_url")
    identifier = f"cs_test_{world.store.new_id('x')[2:]}"
    items = _line_items(world, params)
    if kind != "setup" and not items:
        raise invalid("You must pass `line_items`.", param="line_items", code="parameter_missing")
    session = new(
        _KIND,
        id=identifier,
        created=now,
        mode=kind,
        customer=customer,
        expires_at=params.number("expires_at") or now + DAY,
        url=f"{world.base}/c/pay/{identifier}",
        metadata=params.metadata(),
        customer_creation=None if customer else ("always" if kind != "payment" else "if_required"),
        tax_id_collection={"enabled": params.sub("tax_id_collection").flag("enabled"), "required": "never"},
        _items=items,
    )
    _choices(session, params)
    _data(world, session, params)
    _amounts(world, session)
    return world.store.add(session)


def _choices(session: Obj, params: Params) -> None:
    """What the page asks for, and where it leads."""
    for name in _TEXTS:
        session[name] = params.text(name)
    session["billing_address_collection"] = params.choice("billing_address_collection", ("auto", "required"))
    if session["mode"] == "subscription":
        collection = params.choice("payment_method_collection", ("always", "if_required"), "always")
        session["payment_method_collection"] = collection
    if "allow_promotion_codes" in params:
        session["allow_promotion_codes"] = params.flag("allow_promotion_codes")
    session["_update"] = params.sub("customer_update").plain()
    for quiet in _LOOKS:
        params.sub(quiet).plain()
    no_stripe_tax(params)
    session["payment_method_types"] = params.texts("payment_method_types") or ["card"]
    params.choice("customer_creation", ("always", "if_required"))


def _line_items(world: World, params: Params) -> list[Obj]:
    found = []
    for each in params.items("line_items"):
        chosen = _price(world, each)
        price = world.store.named("price", chosen, "line_items[price]")
        quantity = each.number("quantity")
        if planning.metered(price) and quantity is not None:
            raise invalid(
                "Quantity should not be specified where usage_type is `metered`.",
                param="line_items[quantity]",
            )
        if not planning.metered(price) and quantity is None:
            raise invalid(
                "Quantity is required. Add `quantity` to `line_items`.", param="line_items[quantity]"
            )
        rates = each.texts("tax_rates")
        found.append(
            {"id": world.store.new_id("li"), "price": chosen, "quantity": quantity, "tax_rates": rates}
        )
        each.sub("adjustable_quantity").plain()
    return found


def _price(world: World, params: Params) -> str:
    if "price_data" in params and "product_data" in (data := params.sub("price_data")):
        return str(create_price(world, data)["id"])
    chosen = price_id(world, params)
    if not chosen:
        raise needed("line_items[price]")
    return chosen


def _data(world: World, session: Obj, params: Params) -> None:
    """What the subscription, payment or setup made here will have."""
    data = params.sub("subscription_data")
    behavior = data.sub("trial_settings").sub("end_behavior").text("missing_payment_method", "create_invoice")
    session["_subscription"] = {
        "description": data.text("description"),
        "metadata": data.metadata(),
        "trial_days": data.number("trial_period_days"),
        "trial_end": data.number("trial_end"),
        "anchor": data.number("billing_cycle_anchor"),
        "proration_behavior": data.text("proration_behavior", "create_prorations"),
        "default_tax_rates": data.texts("default_tax_rates"),
        "trial_settings": {"end_behavior": {"missing_payment_method": behavior}},
        "billing_mode": mode(data),
    }
    intent = params.sub("payment_intent_data")
    session["_intent"] = {
        "description": intent.text("description"),
        "metadata": intent.metadata(),
        "setup_future_usage": intent.text("setup_future_usage"),
        "receipt_email": intent.text("receipt_email"),
        "shipping": _shipping(intent.sub("shipping")) if "shipping" in intent else None,
    }
    setup = params.sub("setup_intent_data")
    session["_setup"] = {"description": setup.text("description"), "metadata": setup.metadata()}
    customer = session["customer"]
    owner = {"customer": customer} if customer else {}
    session["_discounts"] = [discount_for(world, each, **owner)["id"] for each in params.items("discounts")]


def _shipping(params: Params) -> Obj:
    return {"address": params.address(), "name": params.text("name"), "phone": params.text("phone")}


def trial_end(world: World, session: Obj) -> int | None:
    data = session["_subscription"]
    if data["trial_days"]:
        return world.now_for(session["customer"]) + int(data["trial_days"]) * DAY
    return int(data["trial_end"]) if data["trial_end"] else None


def _amounts(world: World, session: Obj) -> None:
    """What is due today: nothing in a trial, nothing yet for usage."""
    if session["mode"] == "setup":
        session["currency"] = None
        return
    prices = [world.store.get("price", item["price"]) for item in session["_items"]]
    free = session["mode"] == "subscription" and trial_end(world, session)
    due = 0
    for price, item in zip(prices, session["_items"], strict=True):
        item["_amount"] = 0 if free or planning.metered(price) else pricing.total(price, item["quantity"])
        due += item["_amount"]
    off, tax = _off(world, session), _tax(world, session)
    session |= {
        "currency": prices[0]["currency"],
        "amount_subtotal": due,
        "amount_total": due - off + tax,
        "total_details": {"amount_discount": off, "amount_shipping": 0, "amount_tax": tax},
    }


def _off(world: World, session: Obj) -> int:
    """What coupons take off, item by item."""
    lines = [{"amount": item["_amount"], "discountable": True} for item in session["_items"]]
    for item in session["_items"]:
        item["_off"] = 0
    for each in session["_discounts"]:
        coupon = world.store.get("coupon", world.store.get("discount", each)["source"]["coupon"])
        for item, off in zip(session["_items"], discounted(lines, coupon), strict=True):
            item["_off"] += off
    return sum(item["_off"] for item in session["_items"])


def _tax(world: World, session: Obj) -> int:
    """Exclusive taxes by the rates given, each rounded by itself as on the invoice."""
    total = 0
    for item in session["_items"]:
        for each in item["tax_rates"] or session["_subscription"]["default_tax_rates"]:
            rate = world.store.named("tax_rate", each, "tax_rates")
            if not rate["inclusive"]:
                total += pricing.half_up(
                    Decimal(rate["_percentage"]) * (item["_amount"] - item["_off"]) / 100
                )
    return total


@on_expand(_KIND, "line_items")
def _lines(world: World, session: Obj) -> Any:
    stored = world.store.get(_KIND, session["id"])
    return listing(
        f"/v1/checkout/sessions/{session['id']}/line_items",
        [_shown_item(world, stored, item) for item in stored["_items"]],
    )


def _shown_item(world: World, session: Obj, item: Obj) -> Obj:
    price = world.store.get("price", item["price"])
    return {
        "id": item["id"],
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": item["_amount"],
        "amount_tax": 0,
        "amount_total": item["_amount"],
        "currency": session["currency"],
        "description": planning.product_of(world, price)["name"],
        "metadata": {},
        "price": shown(world, price),
        "quantity": item["quantity"],
    }


@on_expand("item", "discounts")
@on_expand("item", "taxes")
def _none(world: World, item: Obj) -> Any:
    return []


@route("GET", "/v1/checkout/sessions")
def sessions(world: World, params: Params) -> Obj:
    found = world.filtered(_KIND, params, "customer", "payment_intent", "subscription", "status")
    return world.page("/v1/checkout/sessions", found, params)


@route("GET", "/v1/checkout/sessions/{id}")
def retrieve(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get(_KIND, identifier)


@route("POST", "/v1/checkout/sessions/{id}")
def update(world: World, params: Params, identifier: str) -> Obj:
    session = world.store.get(_KIND, identifier)
    session["metadata"] = params.metadata(session["metadata"])
    return session


@route("GET", "/v1/checkout/sessions/{id}/line_items")
def line_items(world: World, params: Params, identifier: str) -> Obj:
    session = world.store.get(_KIND, identifier)
    found = [_shown_item(world, session, item) for item in session["_items"]]
    return world.page(f"/v1/checkout/sessions/{identifier}/line_items", found[::-1], params)


@route("POST", "/v1/checkout/sessions/{id}/expire")
def expire(world: World, params: Params, identifier: str) -> Obj:
    session = world.store.get(_KIND, identifier)
    if session["status"] != "open":
        raise invalid('Only Checkout Sessions with a status in ["open"] can be expired.')
    session |= {"status": "expired", "url": None}
    world.emit("checkout.session.expired", session)
    return session


# What Stripe's own page asks; its command line program pays by it. Not part of the documented API.


@route("GET", "/v1/payment_pages/{id}")
def payment_page(world: World, params: Params, identifier: str) -> Obj:
    params.plain()
    session = world.store.get(_KIND, identifier)
    return {"id": identifier, "object": "payment_page", "mode": session["mode"], "status": session["status"]}


@route("POST", "/v1/payment_pages/{id}/confirm")
def confirm_page(world: World, params: Params, identifier: str) -> Obj:
    session = world.store.get(_KIND, identifier)
    method = world.store.named("payment_method", params.required("payment_method"), "payment_method")
    expected = params.number("expected_amount")
    if expected is not None and expected != session["amount_total"]:
        raise invalid("The expected amount does not match the session's.", param="expected_amount")
    known = method["billing_details"]
    buyer = {
        "email": known["email"],
        "name": known["name"],
        "address": known["address"],
        "tax_type": "",
        "tax_value": None,
    }
    complete(world, session, buyer, method)
    return {"id": identifier, "object": "payment_page", "mode": session["mode"], "status": session["status"]}


# Paying -------------------------------------------------------------------------------------------------------------


def complete(world: World, session: Obj, buyer: Obj, method: Obj | None) -> str:
    """Carry the session out for `buyer` (email, name, address, tax id); returns where the browser goes.

    Raises the card's refusal; the session stays open then and nothing is left behind but the customer.
    """
    if session["status"] != "open":
        raise invalid("This Checkout Session is no longer open.")
    customer = _customer(world, session, buyer)
    if method:
        method["billing_details"] |= {
            "email": buyer["email"],
            "name": buyer["name"],
            "address": buyer["address"] or dict(payments.NO_ADDRESS),
        }
    {"subscription": _subscribe, "payment": _charge_once, "setup": _save_card}[session["mode"]](
        world, session, customer, method
    )
    session |= {
        "status": "complete",
        "url": None,
        "customer_details": {
            "address": buyer["address"] or dict(payments.NO_ADDRESS),
            "business_name": None,
            "email": buyer["email"],
            "individual_name": None,
            "name": buyer["name"],
            "phone": None,
            "tax_exempt": "none",
            "tax_ids": [{"type": buyer["tax_type"], "value": buyer["tax_value"]}]
            if buyer["tax_value"]
            else [],
        },
    }
    world.emit("checkout.session.completed", session)
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", quote(session["id"]))


def _customer(world: World, session: Obj, buyer: Obj) -> Obj:
    if session["customer"]:
        customer = living(world, session["customer"])
        with world.updating(customer, "customer.updated"):
            customer["email"] = customer["email"] or buyer["email"]
            for name in ("address", "name"):
                if session["_update"].get(name) == "auto" and buyer[name]:
                    customer[name] = buyer[name]
    else:
        now = world.now()
        prefix = world.store.new_id("x")[-8:].upper()
        fields = {
            "email": buyer["email"],
            "name": buyer["name"],
            "address": buyer["address"],
            "invoice_prefix": prefix,
        }
        customer = world.store.add(new("customer", id=world.store.new_id("cus"), created=now, **fields))
        session["customer"] = customer["id"]
        world.emit("customer.created", customer)
    if buyer["tax_value"]:
        add_tax_id(world, customer, buyer["tax_type"], buyer["tax_value"])
    return customer


def _subscribe(world: World, session: Obj, customer: Obj, method: Obj | None) -> None:
    data = session["_subscription"]
    if method:
        payments.attach(world, method, customer)
        if session["amount_total"] and not cards.of(method["_number"]).charges:
            method["customer"] = None
            raise payments.declined(method)
    fields = {
        name: data[name]
        for name in ("description", "metadata", "trial_settings", "billing_mode", "default_tax_rates")
    }
    fields |= {"default_payment_method": method["id"] if method else None, "discounts": session["_discounts"]}
    items = [
        ItemChange(price=each["price"], quantity=each["quantity"], tax_rates=each["tax_rates"])
        for each in session["_items"]
        if _recurs(world, each)
    ]
    subscription = lifecycle.start(
        world,
        customer,
        fields,
        items,
        trial_end=trial_end(world, session),
        anchor=data["anchor"],
        behavior=data["proration_behavior"],
        extra=_once_lines(world, session, customer),
    )
    for each in session["_discounts"]:
        world.store.get("discount", each).update(
            {"customer": customer["id"], "subscription": subscription["id"]}
        )
    session |= {"subscription": subscription["id"], "invoice": subscription["latest_invoice"]}
    invoice = world.store.peek("invoice", subscription["latest_invoice"])
    if invoice and invoice["status"] == "paid":
        session |= {"amount_total": invoice["total"], "amount_subtotal": invoice["subtotal"]}
    session["payment_status"] = "paid" if session["amount_total"] else "no_payment_required"
    if invoice and invoice["status"] == "paid" and not session["amount_total"]:
        session["payment_status"] = "paid"


def _recurs(world: World, item: Obj) -> bool:
    return world.store.get("price", item["price"])["recurring"] is not None


def _once_lines(world: World, session: Obj, customer: Obj) -> list[Any]:
    now = world.now_for(customer["id"])
    found = []
    for item in session["_items"]:
        price = world.store.get("price", item["price"])
        if price["recurring"] is None:
            found += charge_lines(price, planning.product_of(world, price), item["quantity"], now, now)
    return found


def _charge_once(world: World, session: Obj, customer: Obj, method: Obj | None) -> None:
    if method is None:
        raise StripeError(402, "card_error", "A card is needed.", code="parameter_missing")
    intent = payments.make_intent(
        world,
        amount=session["amount_total"],
        currency=session["currency"],
        customer=customer["id"],
        **session["_intent"],
    )
    world.emit("payment_intent.created", intent)
    if intent["setup_future_usage"]:
        payments.attach(world, method, customer)
    if not payments.charge(world, intent, method):
        raise payments.declined(method)
    session |= {"payment_intent": intent["id"], "payment_status": "paid"}


def _save_card(world: World, session: Obj, customer: Obj, method: Obj | None) -> None:
    if method is None:
        raise StripeError(402, "card_error", "A card is needed.", code="parameter_missing")
    intent = make_setup(world, customer["id"], **session["_setup"])
    confirm_setup(world, intent, method)
    session |= {"setup_intent": intent["id"], "payment_status": "no_payment_required"}
