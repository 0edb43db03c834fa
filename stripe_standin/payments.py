"""Taking money: payment methods attach, payment intents charge, invoices learn of it."""

from datetime import UTC, datetime
from typing import Any

from stripe_standin import cards
from stripe_standin.errors import StripeError, invalid
from stripe_standin.shapes import new
from stripe_standin.store import Obj
from stripe_standin.world import DAY, World

NO_ADDRESS = {
    "city": None,
    "country": None,
    "line1": None,
    "line2": None,
    "postal_code": None,
    "state": None,
}


def make_card(
    world: World, number: str, month: int, year: int, details: Obj | None = None, *, at: int | None = None
) -> Obj:
    """A payment method of type card. The number is kept to know how the card behaves; it is never shown."""
    card = cards.of(number)
    method = new(
        "payment_method",
        id=world.store.new_id("pm"),
        created=world.now() if at is None else at,
        type="card",
        billing_details={
            "address": dict(NO_ADDRESS),
            "email": None,
            "name": None,
            "phone": None,
            "tax_id": None,
        }
        | (details or {}),
        card={
            "brand": card.brand,
            "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
            "country": "US",
            "display_brand": card.brand,
            "exp_month": month,
            "exp_year": year,
            "fingerprint": f"fp{number[-4:]}{month:02d}{year}",
            "funding": "credit",
            "generated_from": None,
            "last4": number[-4:],
            "networks": {"available": [card.brand], "preferred": None},
            "regulated_status": "unregulated",
            "three_d_secure_usage": {"supported": True},
            "wallet": None,
        },
        _number=number,
    )
    return world.store.add(method)


def from_token(world: World, token: str) -> Obj | None:
    """`pm_card_visa` and its like make a fresh payment method each time, as Stripe's do."""
    number = cards.number_of(token)
    return make_card(world, number, 12, datetime.now(UTC).year + 3) if number else None


def declined(method: Obj, **extra: Any) -> StripeError:
    card = cards.of(method["_number"])
    return StripeError(402, "card_error", card.message, code=card.code, decline_code=card.decline, **extra)


def attach(world: World, method: Obj, customer: Obj) -> Obj:
    """Raises Stripe's card error for cards that banks refuse already here."""
    if method["customer"] == customer["id"]:
        return method
    if method["customer"]:
        raise invalid(
            "The payment method you provided has already been attached to a customer.", param="payment_method"
        )
    if not cards.of(method["_number"]).attaches:
        raise declined(method)
    method["customer"] = customer["id"]
    world.emit("payment_method.attached", method)
    return method


# Payment intents ----------------------------------------------------------------------------------------------------


def make_intent(world: World, *, amount: int, currency: str, customer: str | None, **fields: Any) -> Obj:
    identifier = world.store.new_id("pi")
    intent = new(
        "payment_intent",
        id=identifier,
        amount=amount,
        amount_details={"tip": {}},
        client_secret=f"{identifier}_secret_{world.store.new_id('x')[2:]}",
        created=world.now_for(customer),
        currency=currency,
        customer=customer,
        payment_method_options={
            "card": {
                "installments": None,
                "mandate_options": None,
                "network": None,
                "request_three_d_secure": "automatic",
            }
        },
        status="requires_payment_method",
    )
    world.store.add(intent | fields)
    return world.store.get("payment_intent", identifier)


def charge(world: World, intent: Obj, method: Obj) -> bool:
    """Confirm `intent` with `method`; True when the money came. Tells of the charge and of the intent.

    A card whose bank asks waits for `authenticated`, which holds for one payment."""
    card = cards.of(method["_number"])
    if card.asks and not method.pop("_authenticated", False):
        return _ask_the_bank(world, intent, method)
    intent["next_action"] = None
    made = _charge(world, intent, method, card)
    intent["latest_charge"] = made["id"]
    if card.charges:
        intent |= {
            "status": "succeeded",
            "amount_received": intent["amount"],
            "payment_method": method["id"],
            "last_payment_error": None,
            "next_action": None,
        }
        world.emit("charge.succeeded", made)
        world.emit("payment_intent.succeeded", intent)
        if card.dispute:
            _dispute(world, made, card.dispute)
        return True
    error = declined(method, charge=made["id"]).body()["error"]
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "last_payment_error": error | {"payment_method": _plain(method)},
    }
    world.emit("charge.failed", made)
    world.emit("payment_intent.payment_failed", intent)
    return False


def _ask_the_bank(world: World, intent: Obj, method: Obj) -> bool:
    intent |= {
        "status": "requires_action",
        "payment_method": method["id"],
        "next_action": {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}},
    }
    world.emit("payment_intent.requires_action", intent)
    return False


def authenticated(method: Obj, *, confirmed: bool = True) -> Obj:
    """The customer has confirmed the next payment with the bank, or it needs to be asked (again)."""
    method["_authenticated"] = confirmed
    return method


def refuse_to_confirm(world: World, intent: Obj) -> StripeError:
    """The customer did not confirm: the intent waits for another method, or the same one again."""
    text = "We are unable to authenticate your payment method. Please choose a different payment method and try again."
    error = StripeError(402, "card_error", text, code="payment_intent_authentication_failure")
    method = world.store.get("payment_method", intent["payment_method"])
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "next_action": None,
        "last_payment_error": error.body()["error"] | {"payment_method": _plain(method)},
    }
    world.emit("payment_intent.payment_failed", intent)
    return error


def _dispute(world: World, charge: Obj, status: str) -> Obj:
    made = new(
        "dispute",
        id=world.store.new_id("du"),
        amount=charge["amount"],
        balance_transactions=[],
        charge=charge["id"],
        created=charge["created"],
        currency=charge["currency"],
        enhanced_eligibility_types=[],
        evidence={"enhanced_evidence": {}},
        evidence_details={
            "due_by": charge["created"] + 7 * DAY,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        is_charge_refundable=False,
        metadata={},
        payment_intent=charge["payment_intent"],
        payment_method_details={
            "type": "card",
            "card": {
                "brand": charge["payment_method_details"]["card"]["brand"],
                "case_type": "inquiry" if status.startswith("warning") else "chargeback",
                "network_reason_code": "10.4",
            },
        },
        reason="fraudulent",
        status=status,
    )
    charge["disputed"] = True
    world.store.add(made)
    world.emit("charge.dispute.created", made)
    return made


def _plain(method: Obj) -> Obj:
    return {key: value for key, value in method.items() if not key.startswith("_")}


def _charge(world: World, intent: Obj, method: Obj, card: cards.Card) -> Obj:
    now = world.now_for(intent["customer"])
    made = new(
        "charge",
        id=world.store.new_id("ch"),
        amount=intent["amount"],
        billing_details=method["billing_details"],
        calculated_statement_descriptor="FAREBOX",
        created=now,
        currency=intent["currency"],
        customer=intent["customer"],
        description=intent["description"],
        payment_intent=intent["id"],
        payment_method=method["id"],
        payment_method_details={"type": "card", "card": _card_details(method)},
        status="succeeded" if card.charges else "failed",
    )
    if card.charges:
        made |= {
            "amount_captured": made["amount"],
            "captured": True,
            "paid": True,
            "receipt_url": f"{world.base}/receipts/{made['id']}",
        }
        made["outcome"] = _outcome("authorized", "approved_by_network", None, "Payment complete.")
        made["balance_transaction"] = book(
            world, made["amount"], made["currency"], "charge", made["id"], now
        )["id"]
    else:
        made |= {"failure_code": card.code, "failure_message": card.message}
        made["outcome"] = _outcome(
            "issuer_declined",
            "declined_by_network",
            card.decline,
            "The bank did not return any further details with this decline.",
        )
    return world.store.add(made)


def _outcome(kind: str, network: str, reason: str | None, message: str) -> Obj:
    return {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": network,
        "reason": reason,
        "risk_level": "normal",
        "risk_score": 12,
        "seller_message": message,
        "type": kind,
    }


def _card_details(method: Obj) -> Obj:
    card = method["card"]
    kept = {
        name: card[name]
        for name in (
            "brand",
            "country",
            "exp_month",
            "exp_year",
            "fingerprint",
            "funding",
            "last4",
            "wallet",
            "regulated_status",
        )
    }
    return kept | {
        "amount_authorized": None,
        "authorization_code": None,
        "checks": card["checks"],
        "extended_authorization": {"status": "disabled"},
        "incremental_authorization": {"status": "unavailable"},
        "installments": None,
        "mandate": None,
        "multicapture": {"status": "unavailable"},
        "network": card["brand"],
        "network_token": {"used": False},
        "network_transaction_id": None,
        "overcapture": {"maximum_amount_capturable": 0, "status": "unavailable"},
        "three_d_secure": None,
    }


def book(world: World, amount: int, currency: str, kind: str, source: str, at: int) -> Obj:
    """A balance transaction; the stand-in's fee is 2.9 % and 30 of the smallest unit for charges, none else."""
    fee = (amount * 29 + 500) // 1000 + 30 if kind == "charge" else 0
    detail = {
        "amount": fee,
        "application": None,
        "currency": currency,
        "description": "Stripe processing fees",
        "type": "stripe_fee",
    }
    return world.store.add(
        new(
            "balance_transaction",
            id=world.store.new_id("txn"),
            amount=amount,
            available_on=at,
            created=at,
            currency=currency,
            fee=fee,
            fee_details=[detail] if fee else [],
            net=amount - fee,
            reporting_category=kind,
            source=source,
            type=kind,
        )
    )
