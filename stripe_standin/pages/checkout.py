"""The hosted Checkout page."""

from stripe_standin import cards, payments, planning, pricing
from stripe_standin.errors import StripeError
from stripe_standin.pages import card
from stripe_standin.pages.html import Html, fill, many, page, problem
from stripe_standin.pages.response import Page, redirect
from stripe_standin.resources.checkout import complete, trial_end
from stripe_standin.store import Obj
from stripe_standin.world import World

_NOT_CONFIRMED = "We are unable to authenticate your payment method. Please choose a different payment method and try again."


def show(world: World, form: dict[str, str], identifier: str, trouble: str = "") -> Page:
    session = world.store.get("checkout.session", identifier)
    if session["status"] == "complete":
        return page("message", title="You're all done here", text="This Checkout session was completed.")
    if session["status"] != "open":
        return page("message", title="This link has expired", text="Go back and start again.")
    customer = world.store.peek("customer", session["customer"]) or {}
    currency, total = session["currency"] or "usd", session["amount_total"] or 0
    values: dict[str, object] = {
        "rows": many("_row", [_row(world, session, item) for item in session["_items"]]),
        "due": pricing.money(total, currency),
        "problem": problem(trouble),
        "email": form.get("email") or session["customer_email"] or customer.get("email") or "",
        "card": card.fields(form) if _asks_for_card(session) else fill("_nocard"),
        "address": fill("_address", **_address_values(form))
        if session["billing_address_collection"] == "required"
        else Html(""),
        "tax": fill("_tax", value=form.get("taxId", ""))
        if session["tax_id_collection"]["enabled"]
        else Html(""),
        "button": _button(world, session),
        "cancel": fill("_back", url=session["cancel_url"]) if session["cancel_url"] else Html(""),
    }
    return page("checkout", status=402 if trouble else 200, title="Checkout", **values)


def _asks_for_card(session: Obj) -> bool:
    return session["payment_method_collection"] != "if_required" or bool(session["amount_total"])


def _row(world: World, session: Obj, item: Obj) -> dict[str, object]:
    price = world.store.get("price", item["price"])
    name = planning.product_of(world, price)["name"]
    if planning.metered(price):
        return {
            "name": name,
            "detail": f"price varies, billed{pricing.every(price['recurring']).replace(' /', ' each')}",
            "amount": "",
        }
    whole = pricing.money(pricing.total(price, item["quantity"]), price["currency"])
    trial = trial_end(world, session) if session["mode"] == "subscription" else None
    detail = (
        f"free until {pricing.day_text(trial)}, then {whole}{pricing.every(price['recurring'])}"
        if trial
        else f"{item['quantity']:,} × {whole}{pricing.every(price['recurring'])}"
        if item["quantity"] != 1
        else f"billed{pricing.every(price['recurring']).replace(' /', ' each')}"
    )
    return {"name": name, "detail": detail, "amount": pricing.money(item["_amount"], price["currency"])}


def _button(world: World, session: Obj) -> str:
    if session["mode"] == "setup":
        return "Save card"
    if session["mode"] == "payment":
        return f"Pay {pricing.money(session['amount_total'], session['currency'])}"
    return "Start trial" if trial_end(world, session) else "Subscribe"


def _address_values(form: dict[str, str]) -> dict[str, object]:
    names = {
        "line1": "addressLine1",
        "city": "addressCity",
        "code": "addressPostalCode",
        "state": "addressState",
        "country": "billingCountry",
    }
    return {name: form.get(field, "") for name, field in names.items()}


def _ask_the_bank(session: Obj, form: dict[str, str]) -> Page:
    amount = pricing.money(session["amount_total"] or 0, session["currency"] or "usd")
    return page("authenticate", title="Your bank", form=card.bank_form(amount, form))


def submit(world: World, form: dict[str, str], identifier: str) -> Page:
    session = world.store.get("checkout.session", identifier)
    if session["status"] != "open":
        return show(world, form, identifier)
    try:
        if "@" not in form.get("email", ""):
            raise StripeError(400, "invalid_request_error", "Your email is incomplete.")
        method = (
            card.read(world, form, world.now_for(session["customer"])) if _asks_for_card(session) else None
        )
        buyer: Obj = {
            "email": form["email"],
            "name": form.get("billingName") or None,
            "address": card.address(form),
            "tax_type": "eu_vat",
            "tax_value": form.get("taxId") or None,
        }
        if method is not None and cards.of(method["_number"]).asks:
            if "authenticate" not in form:
                return _ask_the_bank(session, form)
            if form["authenticate"] != "complete":
                raise StripeError(402, "card_error", _NOT_CONFIRMED)
            payments.authenticated(method)
        back = complete(world, session, buyer, method)
        if method is not None:
            payments.authenticated(method, confirmed=False)
        return redirect(back)
    except StripeError as error:
        return show(world, form, identifier, str(error))
