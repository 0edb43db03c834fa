"""Stripe's test cards: which are refused, when, and with which codes."""

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Card:
    brand: str = "visa"
    attaches: bool = True
    charges: bool = True
    dispute: str = ""  # pays, and the money is asked back at once: the status of the dispute
    asks: bool = False  # the bank wants each payment confirmed by its customer (3D Secure)
    code: str = ""
    decline: str = ""
    message: str = ""


_DECLINED = "Your card was declined."


def _refused(
    decline: str, message: str = _DECLINED, *, code: str = "card_declined", attaches: bool = False
) -> Card:
    return Card(attaches=attaches, charges=False, code=code, decline=decline, message=message)


ASKING = Card(
    asks=True,
    code="authentication_required",
    decline="authentication_required",
    message="Your card was declined. This transaction requires authentication.",
)
CARDS = {
    "4242424242424242": Card(),
    "4000056655665556": Card(),
    "5555555555554444": Card("mastercard"),
    "378282246310005": Card("amex"),
    "6011111111111117": Card("discover"),
    "4000000000000077": Card(),
    "4000000000000002": _refused("generic_decline"),
    "4000000000009995": _refused("insufficient_funds", "Your card has insufficient funds."),
    "4000000000009987": _refused("lost_card"),
    "4000000000009979": _refused("stolen_card"),
    "4000000000000069": _refused("expired_card", "Your card has expired.", code="expired_card"),
    "4000000000000127": _refused(
        "incorrect_cvc", "Your card's security code is incorrect.", code="incorrect_cvc"
    ),
    "4000000000000119": _refused(
        "processing_error",
        "An error occurred while processing your card. Try again in a little bit.",
        code="processing_error",
    ),
    "4000000000000259": Card(dispute="needs_response"),
    "4000000000001976": Card(dispute="warning_needs_response"),  # an inquiry
    "4000000000003220": ASKING,
    "4000002760003184": ASKING,
    # Attaches, then every charge fails: the card of failed renewals.
    "4000000000000341": _refused("generic_decline", attaches=True),
}

_TOKENS = {
    "visa": "4242424242424242",
    "visa_debit": "4000056655665556",
    "mastercard": "5555555555554444",
    "amex": "378282246310005",
    "discover": "6011111111111117",
    "createDispute": "4000000000000259",
    "createDisputeInquiry": "4000000000001976",
    "threeDSecure2Required": "4000000000003220",
    "bypassPending": "4000000000000077",
    "chargeDeclined": "4000000000000002",
    "visa_chargeDeclined": "4000000000000002",
    "chargeDeclinedInsufficientFunds": "4000000000009995",
    "visa_chargeDeclinedInsufficientFunds": "4000000000009995",
    "chargeDeclinedLostCard": "4000000000009987",
    "visa_chargeDeclinedLostCard": "4000000000009987",
    "chargeDeclinedStolenCard": "4000000000009979",
    "visa_chargeDeclinedStolenCard": "4000000000009979",
    "chargeDeclinedExpiredCard": "4000000000000069",
    "chargeDeclinedIncorrectCvc": "4000000000000127",
    "chargeDeclinedProcessingError": "4000000000000119",
    "chargeCustomerFail": "4000000000000341",
    "authenticationRequired": "4000002760003184",
}


def number_of(token: str) -> str | None:
    """The number behind `pm_card_visa` or `tok_visa`."""
    for prefix in ("pm_card_", "tok_"):
        if token.startswith(prefix):
            return _TOKENS.get(token.removeprefix(prefix))
    return None


def of(number: str) -> Card:
    return CARDS.get(number, Card())


def fault_of(number: str, month: int, year: int, cvc: str, now: int) -> tuple[str, str, str] | None:
    """What a form finds wrong before any bank is asked: (code, param, message)."""
    if not number.isdigit() or not 12 <= len(number) <= 19 or not _luhn(number):
        return "incorrect_number", "number", "Your card number is incorrect."
    today = datetime.fromtimestamp(now, UTC)
    if not 1 <= month <= 12:
        return "invalid_expiry_month", "exp_month", "Your card's expiration month is invalid."
    if (year, month) < (today.year, today.month):
        return "invalid_expiry_year", "exp_year", "Your card's expiration year is invalid."
    if not cvc.isdigit() or len(cvc) not in (3, 4):
        return "invalid_cvc", "cvc", "Your card's security code is invalid."
    return None


def _luhn(number: str) -> bool:
    total = 0
    for index, digit in enumerate(reversed(number)):
        value = int(digit) * (2 if index % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
