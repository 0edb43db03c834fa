"""The customer portal: what one subscribed to, how it is paid, invoices, billing details, cancelling and taking it back."""

from stripe_standin import cards, lifecycle, payments, planning, pricing
from stripe_standin.errors import StripeError, missing
from stripe_standin.pages import card
from stripe_standin.pages.html import Html, fill, many, page, problem
from stripe_standin.pages.response import Page, redirect
from stripe_standin.resources.customers import add_tax_id
from stripe_standin.resources.subscriptions import set_ending
from stripe_standin.store import Obj
from stripe_standin.world import World

_LIVES = 3600  # seconds


def _session(world: World, secret: str) -> tuple[Obj, Obj, Obj]:
    """The session, its customer, its configuration's features."""
    found = next(world.store.where("billing_portal.session", _secret=secret), None)
    if found is None or found["created"] + _LIVES < world.now():
        raise missing("portal session", secret)
    configuration = world.store.get("billing_portal.configuration", found["configuration"])
    return found, world.store.get("customer", found["customer"]), configuration["features"]


def home(world: World, form: dict[str, str], secret: str) -> Page:
    session, customer, features = _session(world, secret)
    if session["flow"] and not form.get("home"):
        return _into_flow(session, secret)
    subscriptions = [
        each
        for each in world.store.where("subscription", customer=customer["id"])
        if each["status"] not in lifecycle.ENDED
    ]
    invoices = [
        each for each in world.store.where("invoice", customer=customer["id"]) if each["status"] != "draft"
    ]
    tax_ids = ", ".join(each["value"] for each in world.store.where("tax_id", customer=customer["id"]))
    return page(
        "portal",
        title="Billing",
        secret=secret,
        plans=many("_plan", [_plan(world, each, secret, features) for each in subscriptions]),
        method=_method_text(world, customer, subscriptions),
        change=fill("_change_card", secret=secret)
        if features["payment_method_update"]["enabled"]
        else Html(""),
        invoices=many("_invoice_row", [_invoice_row(each) for each in reversed(invoices)])
        if features["invoice_history"]["enabled"]
        else Html(""),
        email=customer["email"] or "",
        name=customer["name"] or "",
        address=", ".join(value for value in (customer["address"] or {}).values() if value),
        tax=tax_ids,
        back=fill("_back", url=session["return_url"]) if session["return_url"] else Html(""),
    )


def _into_flow(session: Obj, secret: str) -> Page:
    flow = session["flow"]
    if flow["type"] == "payment_method_update":
        return redirect(f"/p/session/{secret}/payment-method")
    return redirect(f"/p/session/{secret}/cancel/{flow['subscription_cancel']['subscription']}")


def _after(session: Obj, secret: str) -> Page:
    """Back home, or where the deep link said."""
    flow = session["flow"]
    if flow and flow["after_completion"]["redirect"]:
        return redirect(flow["after_completion"]["redirect"]["return_url"])
    return redirect(f"/p/session/{secret}?home=1")


def _plan(world: World, subscription: Obj, secret: str, features: Obj) -> dict[str, object]:
    items = planning.items_of(world, subscription)
    names = ", ".join(planning.product_of(world, planning.price_of(world, item))["name"] for item in items)
    end = pricing.day_text(max(item["current_period_end"] for item in items))
    if subscription["cancel_at_period_end"]:
        action, state = fill("_renew", secret=secret, subscription=subscription["id"]), f"Cancels on {end}"
    else:
        action, state = (
            fill("_cancel_link", secret=secret, subscription=subscription["id"]),
            f"Renews on {end}",
        )
    if subscription["status"] != "active":
        state = f"{state} · {subscription['status'].replace('_', ' ')}"
    return {
        "names": names,
        "state": state,
        "action": action if features["subscription_cancel"]["enabled"] else Html(""),
    }


def _method_text(world: World, customer: Obj, subscriptions: list[Obj]) -> str:
    chosen = customer["invoice_settings"]["default_payment_method"]
    chosen = next(
        (each["default_payment_method"] for each in subscriptions if each["default_payment_method"]), chosen
    )
    method = world.store.peek("payment_method", chosen)
    if method is None:
        return "No payment method"
    kept = method["card"]
    return f"{kept['brand'].title()} •••• {kept['last4']}, expires {kept['exp_month']:02d}/{kept['exp_year']}"


def _invoice_row(invoice: Obj) -> dict[str, object]:
    return {
        "date": pricing.day_text(invoice["created"]),
        "number": invoice["number"],
        "total": pricing.money(invoice["total"], invoice["currency"]),
        "status": invoice["status"],
        "url": invoice["hosted_invoice_url"],
    }


# Payment method -----------------------------------------------------------------------------------------------------


def card_form(world: World, form: dict[str, str], secret: str, trouble: str = "") -> Page:
    _session(world, secret)
    return page(
        "portal_card",
        status=402 if trouble else 200,
        title="Change payment method",
        secret=secret,
        card=card.fields(form),
        problem=problem(trouble),
    )


def save_card(world: World, form: dict[str, str], secret: str) -> Page:
    session, customer, _ = _session(world, secret)
    try:
        method = card.read(world, form, world.now_for(customer["id"]))
        if not cards.of(method["_number"]).attaches:
            raise payments.declined(method)
        payments.attach(world, method, customer)
    except StripeError as error:
        return card_form(world, form, secret, str(error))
    with world.updating(customer, "customer.updated"):
        customer["invoice_settings"]["default_payment_method"] = method["id"]
    for subscription in world.store.where("subscription", customer=customer["id"]):
        if subscription["default_payment_method"] and subscription["status"] not in lifecycle.ENDED:
            with world.updating(subscription, "customer.subscription.updated"):
                subscription["default_payment_method"] = method["id"]
    return _after(session, secret)


# Billing details ----------------------------------------------------------------------------------------------------


def information_form(world: World, form: dict[str, str], secret: str, trouble: str = "") -> Page:
    _, customer, _ = _session(world, secret)
    known = customer["address"] or {}
    address = fill(
        "_address",
        line1=known.get("line1") or "",
        city=known.get("city") or "",
        code=known.get("postal_code") or "",
        state=known.get("state") or "",
        country=known.get("country") or "",
    )
    return page(
        "portal_information",
        title="Billing information",
        secret=secret,
        problem=problem(trouble),
        email=customer["email"] or "",
        name=customer["name"] or "",
        address=address,
        tax=fill("_tax", value=""),
    )


def save_information(world: World, form: dict[str, str], secret: str) -> Page:
    session, customer, _ = _session(world, secret)
    try:
        if form.get("taxId"):
            add_tax_id(world, customer, form.get("taxIdType") or "eu_vat", form["taxId"])
    except StripeError as error:
        return information_form(world, form, secret, str(error))
    with world.updating(customer, "customer.updated"):
        customer["email"] = form.get("email") or customer["email"]
        customer["name"] = form.get("billingName") or customer["name"]
        customer["address"] = card.address(form) or customer["address"]
    return _after(session, secret)


# Cancelling ---------------------------------------------------------------------------------------------------------


def _owned(world: World, customer: Obj, identifier: str) -> Obj:
    subscription = world.store.get("subscription", identifier)
    if subscription["customer"] != customer["id"] or subscription["status"] in lifecycle.ENDED:
        raise missing("subscription", identifier)
    return subscription


def cancel_form(world: World, form: dict[str, str], secret: str, identifier: str) -> Page:
    _, customer, features = _session(world, secret)
    subscription = _owned(world, customer, identifier)
    end = pricing.day_text(max(item["current_period_end"] for item in planning.items_of(world, subscription)))
    now = features["subscription_cancel"]["mode"] == "immediately"
    text = "It ends at once." if now else f"It stays available until {end}."
    return page(
        "portal_cancel", title="Cancel subscription", secret=secret, subscription=identifier, text=text
    )


def cancel(world: World, form: dict[str, str], secret: str, identifier: str) -> Page:
    session, customer, features = _session(world, secret)
    subscription = _owned(world, customer, identifier)
    if features["subscription_cancel"]["mode"] == "immediately":
        lifecycle.cancel(world, subscription, reason="cancellation_requested")
    else:
        with world.updating(subscription, "customer.subscription.updated"):
            set_ending(world, subscription, at_period_end=True)
    return _after(session, secret)


def renew(world: World, form: dict[str, str], secret: str, identifier: str) -> Page:
    session, customer, _ = _session(world, secret)
    subscription = _owned(world, customer, identifier)
    with world.updating(subscription, "customer.subscription.updated"):
        set_ending(world, subscription, at_period_end=False)
    return _after(session, secret)
