"""What an upgrade is said to cost is what it charges: the page carries the price, signed, to the act.

While somebody reads it, time and calls go on, and the unused part of the fee shrinks with them. Within `GOOD_FOR` the credit
that was shown is given; what the statement of the closed period says less goes as another item with it
(billing/stripe/items.py).
"""

from datetime import datetime, timedelta
from typing import Any

from django.core import signing

from billing.models import StripeCustomer, StripeSubscription
from billing.stripe.client import for_people, plain, stripe_client
from billing.stripe.upgrades import UpgradePrice, present_period, upgrade_price
from core.clock import from_micros, to_micros
from core.errors import PortalError
from plans.models import PlanVersion

GOOD_FOR = timedelta(minutes=15)
_SALT = "stripe-upgrade"


class PriceChanged(PortalError):
    code, status, title = "price_changed", 409, "The amount has changed"


@for_people()
def quote_upgrade(row: StripeSubscription, version: PlanVersion, *, at: datetime) -> tuple[UpgradePrice, str]:
    """The price, less what Stripe keeps for the customer, and the same signed, for the act. Raises StripeAway."""
    price = upgrade_price(row, version, at=at, balance_minor=_balance(row, version))
    return price, signing.dumps(_facts(row, version, price, at) | {"at": to_micros(at)}, salt=_SALT)


def read_quote(quote: str, row: StripeSubscription, version: PlanVersion, *, at: datetime) -> UpgradePrice:
    """The price that was shown. Raises PriceChanged where it is too old, of another period, not ours, or where Stripe
    keeps another amount for the customer by now; or stripe.StripeError."""
    try:
        said = signing.loads(quote, salt=_SALT)
        price = UpgradePrice(version.currency, said["fee"], said["credit"], said["balance"])
        is_new = timedelta() <= at - from_micros(said.pop("at")) <= GOOD_FOR
    except (signing.BadSignature, KeyError) as error:
        raise PriceChanged(_LOOK) from error
    if not is_new or said != _facts(row, version, price, at) or price.balance_minor != _balance(row, version):
        raise PriceChanged(_LOOK)
    return price


_LOOK = "Nothing was charged. Look at the new one, then confirm it."


def _facts(
    row: StripeSubscription, version: PlanVersion, price: UpgradePrice, at: datetime
) -> dict[str, Any]:
    return {
        "row": row.stripe_id, "version": version.pk, "status": row.status,
        "period": present_period(row.subscription, at=at).pk,
        "fee": price.fee_minor, "credit": price.credit_minor, "balance": price.balance_minor,
    }  # fmt: skip


def _balance(row: StripeSubscription, version: PlanVersion) -> int:
    """What Stripe adds to the customer's next invoice, minor units; below zero: what it keeps for the customer."""
    customer = StripeCustomer.objects.for_organization(row.organization).get().stripe_id
    found = plain(stripe_client().v1.customers.retrieve(customer))
    is_same = (found.get("currency") or "").upper() in ("", version.currency)
    return int(found.get("balance") or 0) if is_same else 0
