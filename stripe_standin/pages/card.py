"""The card fields shared by Checkout, the portal and hosted invoices."""

import re

from stripe_standin import cards, payments
from stripe_standin.errors import StripeError
from stripe_standin.pages.html import Html, fill, many
from stripe_standin.store import Obj
from stripe_standin.world import World


def fields(form: dict[str, str]) -> Html:
    """The number and code are asked for anew after a refusal, as there."""
    return fill("_card", expiry=form.get("cardExpiry", ""), name=form.get("billingName", ""))


def read(world: World, form: dict[str, str], at: int) -> Obj:
    """A payment method of what was typed. Raises what the form finds wrong."""
    number = re.sub(r"[\s-]", "", form.get("cardNumber", ""))
    expiry = re.fullmatch(r"(\d{1,2})\s*/?\s*(\d{2}|\d{4})", form.get("cardExpiry", ""))
    if not number or not expiry:
        text = (
            "Your card number is incomplete." if not number else "Your card's expiration date is incomplete."
        )
        raise StripeError(402, "card_error", text, code="incomplete_card")
    month, year = int(expiry[1]), int(expiry[2]) % 100 + 2000
    wrong = cards.fault_of(number, month, year, form.get("cardCvc", ""), at)
    if wrong:
        raise StripeError(402, "card_error", wrong[2], code=wrong[0])
    return payments.make_card(world, number, month, year, {"name": form.get("billingName") or None}, at=at)


def address(form: dict[str, str]) -> Obj | None:
    names = {
        "line1": "addressLine1",
        "city": "addressCity",
        "postal_code": "addressPostalCode",
        "state": "addressState",
        "country": "billingCountry",
    }
    found = {name: form.get(field) or None for name, field in names.items()}
    return {"line2": None, **found} if any(found.values()) else None


def bank_form(amount: str, form: dict[str, str]) -> Html:
    """The bank's question (3D Secure), with what was typed before kept."""
    kept: list[dict[str, object]] = [
        {"name": name, "value": value} for name, value in form.items() if name != "authenticate"
    ]
    return fill("_authenticate", amount=amount, kept=many("_hidden", kept))
