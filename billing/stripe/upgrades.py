"""Upgrades that are paid by card at once: priced, charged, and where the bank asks its customer, waited for.

At Stripe an upgrade is a new subscription: the old one ends without proration and without an invoice, and the unused part of
its fee is an item of ours on the new one's first invoice. When the bank wants the payment confirmed (3D Secure), the new
subscription is incomplete; the plan changes when it is paid. Until then nothing has changed, and after `CONFIRM_WITHIN` its
invoice is void, with the credit on it.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import stripe
from django.db.models import Exists, OuterRef

from accounts.models import Organization, User
from accounts.permissions import check_can_decide_plan
from billing.models import StripeSubscription, StripeUpgrade, UpgradeState
from billing.stripe.checkout import checkout_items, paying
from billing.stripe.client import StripeRefused, for_people, once_at, plain, stripe_client, stripe_id_of
from billing.stripe.customers import customer_lock, ensure_customer
from billing.stripe.invoices import apply_invoice
from billing.stripe.sync import (
    CREDIT_AMOUNT,
    CREDIT_ITEM,
    EXPAND,
    PAYS,
    REPLACES,
    apply_subscription,
    credit_text,
)
from core.errors import PortalError
from core.one_by_one import one_by_one
from metering.costs import fee_back_minor
from plans.models import Period, PlanVersion, Subscription

# The new period begins with the request, so the wait is short: shorter than the grace after which the old one has a statement.
CONFIRM_WITHIN = timedelta(minutes=30)
_NO_CARD = "Choose another payment method, or ask us."
Json = Mapping[str, Any]


class ChangedMeanwhile(PortalError):
    code, status, title = "plan_changed_meanwhile", 409, "Your plan has just changed"


class PeriodEndsNow(PortalError):
    code, status, title = "period_ends_now", 409, "Your period ends in this minute"


@dataclass(frozen=True, slots=True)
class UpgradePrice:
    """What an upgrade costs now: the new fee, less the unused part of the old one. Minor units.

    Where more is given back than the new fee asks for (a year that has just begun, for a month), nothing is due and the rest
    stays at Stripe as a balance, which the next invoices use up. `balance_minor` is Stripe's: below zero what it keeps for
    the customer from before."""

    currency: str
    fee_minor: int
    credit_minor: int
    balance_minor: int = 0

    @property
    def _total_minor(self) -> int:
        return self.fee_minor - self.credit_minor

    @property
    def due_minor(self) -> int:
        """What the card is charged. An invoice of nothing, or less, leaves the balance for the next one."""
        return max(self._total_minor + self.balance_minor, 0) if self._total_minor > 0 else 0

    @property
    def used_minor(self) -> int:
        """What is paid from what Stripe keeps."""
        return max(min(-self.balance_minor, self._total_minor), 0)

    @property
    def added_minor(self) -> int:
        """What the invoice takes that the customer owes from before."""
        return max(self.balance_minor, 0) if self._total_minor > 0 else 0

    @property
    def left_minor(self) -> int:
        """What Stripe keeps for the customer afterwards."""
        return max(-self._total_minor - self.balance_minor, 0)


def upgrade_price(
    row: StripeSubscription, version: PlanVersion, *, at: datetime, balance_minor: int = 0
) -> UpgradePrice:
    """What an upgrade would charge at this moment; nothing in a trial that goes on."""
    if row.status == "trialing":
        return UpgradePrice(version.currency, 0, 0, balance_minor)
    fee_back = fee_back_minor(present_period(row.subscription, at=at), at=at)
    return UpgradePrice(version.currency, version.fee_minor, fee_back, balance_minor)


def waiting_upgrade(organization: Organization) -> StripeUpgrade | None:
    """The upgrade that waits for the customer's bank, unless Stripe has told meanwhile that it is paid."""
    adopted = StripeSubscription.objects.filter(stripe_id=OuterRef("stripe_id"))
    rows = StripeUpgrade.objects.for_organization(organization).filter(state=UpgradeState.WAITING)
    return rows.exclude(Exists(adopted)).select_related("version__plan", "replaces").first()


def present_period(subscription: Subscription, *, at: datetime) -> Period:
    """The last one that has begun."""
    rows = subscription.periods.filter(starts_at__lte=at).select_related("organization", "version__plan")
    return rows.latest("starts_at")


def begin_upgrade(
    row: StripeSubscription, version: PlanVersion, *, at: datetime, price: UpgradePrice | None = None
) -> str:
    """Charge and change ('' then), or the page where the customer has to confirm first. Under the customer's lock. `price` is
    what was shown; None: that of this moment.

    Raises StripeRefused where the card does not pay, PeriodEndsNow, or stripe.StripeError; nothing has changed then."""
    price = price or upgrade_price(row, version, at=at)
    made = plain(_subscribe(row, version, price, at))
    if made["status"] in PAYS:
        apply_subscription(made, at=at)
        return ""
    expires_at = min(
        at + CONFIRM_WITHIN, (row.current_period_end or at + CONFIRM_WITHIN) - timedelta(minutes=1)
    )
    reason = _reason(made)
    if reason or expires_at <= at:
        if paid := _give_up(made, at):
            _take_over(paid, at)
            return ""
        raise StripeRefused(reason) if reason else PeriodEndsNow("Try again in some minutes.")
    invoice = plain(stripe_client().v1.invoices.retrieve(stripe_id_of(made["latest_invoice"])))
    StripeUpgrade.objects.create(
        organization_id=row.organization_id, replaces=row, version=version, stripe_id=made["id"],
        url=invoice["hosted_invoice_url"], due_minor=invoice["amount_remaining"], currency=version.currency,
        asked_at=at, expires_at=expires_at,
    )  # fmt: skip
    return str(invoice["hosted_invoice_url"])


def end_earlier(organization: Organization, *, at: datetime) -> None:
    """Before another change: what an earlier upgrade left at Stripe (it waits for the bank, or its answer was lost) is void, and
    the credit that waited for it is taken back. Raises ChangedMeanwhile where it turns out to be paid: then it is ours."""
    with customer_lock(organization.pk):
        row = paying(organization)
        paid = row is not None and _end_earlier(row, at)
    if paid:  # outside, where it is committed
        raise ChangedMeanwhile("What you asked for before has been paid. Look at your plan again.")


def _end_earlier(row: StripeSubscription, at: datetime) -> bool:
    client, customer = stripe_client(), ensure_customer(row.organization).stripe_id
    listed = client.v1.subscriptions.list({"customer": customer, "limit": 100}).auto_paging_iter()
    found = [data for one in listed if (data := plain(one))["metadata"].get(REPLACES) == row.stripe_id]
    paid = [done for data in found if (done := _give_up(data, at))]
    pending: Any = {"customer": customer, "pending": True, "limit": 100}
    for item in client.v1.invoice_items.list(pending).auto_paging_iter():
        if (plain(item).get("metadata") or {}).get("farebox_credit_of") == row.stripe_id:
            client.v1.invoice_items.delete(item.id)
    for done in paid:
        _take_over(done, at)
    waiting = StripeUpgrade.objects.for_organization(row.organization).filter(state=UpgradeState.WAITING)
    adopted = StripeSubscription.objects.for_organization(row.organization).values("stripe_id")
    waiting.filter(stripe_id__in=adopted).update(state=UpgradeState.PAID)
    waiting.update(state=UpgradeState.DROPPED)
    return bool(paid)


@for_people()
def look_at_upgrade(*, organization: Organization, by: User | None, at: datetime) -> StripeUpgrade | None:
    """Ask Stripe what became of it: the upgrade, waiting (send the customer to its page), paid, or dropped because the time is
    over; None where there is none. Raises Forbidden, StripeAway."""
    check_can_decide_plan(by, organization)
    with customer_lock(organization.pk):
        upgrade = waiting_upgrade(organization)
        if upgrade is not None:
            _look(upgrade, at)
    return upgrade


@for_people()
def drop_upgrade(*, organization: Organization, by: User | None, at: datetime) -> StripeUpgrade | None:
    """The customer leaves it: its invoice is void, the plan stays; unless it was paid just now. Raises Forbidden, StripeAway."""
    check_can_decide_plan(by, organization)
    with customer_lock(organization.pk):
        upgrade = waiting_upgrade(organization)
        if upgrade is not None:
            _settle(upgrade, _fetch(upgrade), at)
    return upgrade


def follow_upgrades(*, at: datetime, limit: int = 200) -> int:
    """Look at what waits for a bank: paid, refused, or void when its time is over; how many are decided."""
    waiting = StripeUpgrade.objects.filter(state=UpgradeState.WAITING)
    ids = waiting.order_by("asked_at").values_list("pk", flat=True)[:limit]
    return one_by_one(ids, lambda pk: _follow(pk, at), failed="stripe_upgrade_not_followed")


def _follow(pk: int, at: datetime) -> bool:
    with customer_lock(StripeUpgrade.objects.values_list("organization_id", flat=True).get(pk=pk)):
        upgrade = StripeUpgrade.objects.select_related("organization", "replaces").get(pk=pk)
        if upgrade.state == UpgradeState.WAITING:
            _look(upgrade, at)
    return upgrade.state != UpgradeState.WAITING


def _look(upgrade: StripeUpgrade, at: datetime) -> None:
    """The state as of now. A customer may choose another card on Stripe's page until the time is over."""
    data = _fetch(upgrade)
    if data["status"] == "incomplete" and at < upgrade.expires_at and upgrade.replaces.ended_at is None:
        return
    _settle(upgrade, data, at)


def _settle(upgrade: StripeUpgrade, data: Json, at: datetime) -> None:
    paid = _give_up(data, at)
    if paid:
        _take_over(paid, at)
    upgrade.state = UpgradeState.PAID if paid else UpgradeState.DROPPED
    upgrade.save(update_fields=["state"])


def _fetch(upgrade: StripeUpgrade) -> Json:
    return plain(stripe_client().v1.subscriptions.retrieve(upgrade.stripe_id, {"expand": EXPAND}))


def _give_up(data: Json, at: datetime) -> tuple[Json, Json] | None:
    """Void the invoice of an incomplete subscription, and end it. Where it is paid: subscription and invoice, to be taken over
    when Stripe is not asked any more, because that locks rows."""
    client, invoice = stripe_client(), stripe_id_of(data.get("latest_invoice"))
    if data["status"] == "incomplete":
        with suppress(stripe.InvalidRequestError):  # paid in this moment, or void
            client.v1.invoices.void_invoice(invoice, options=once_at("void", invoice, at=at))
        data = plain(client.v1.subscriptions.retrieve(data["id"], {"expand": EXPAND}))
    if data["status"] == "incomplete":
        with suppress(stripe.InvalidRequestError):  # ended with its invoice
            client.v1.subscriptions.cancel(data["id"])
    if data["status"] not in PAYS:
        return None
    return data, plain(client.v1.invoices.retrieve(invoice))


def _take_over(paid: tuple[Json, Json], at: datetime) -> None:
    apply_subscription(paid[0], at=at)
    apply_invoice(paid[1], at=at)


def _reason(data: Json) -> str:
    """Why the first invoice is not paid, in Stripe's words; '' where the customer only has to confirm."""
    client = stripe_client()
    for one in client.v1.invoice_payments.list(
        {"invoice": stripe_id_of(data["latest_invoice"])}
    ).auto_paging_iter():
        if found := plain(one)["payment"].get("payment_intent"):
            intent = plain(client.v1.payment_intents.retrieve(stripe_id_of(found)))
            if intent["status"] == "requires_action":
                return ""
            return str((intent.get("last_payment_error") or {}).get("message") or _NO_CARD)
    return _NO_CARD


def _subscribe(
    row: StripeSubscription, version: PlanVersion, price: UpgradePrice, at: datetime
) -> stripe.Subscription:
    customer = ensure_customer(row.organization).stripe_id
    client, key = stripe_client(), (row.stripe_id, version.pk)
    metadata = {
        "farebox_organization": row.organization.public_id,
        "farebox_version": str(version.pk),
        REPLACES: row.stripe_id,
    }
    params: Any = {
        "customer": customer,
        "items": checkout_items(version),
        "billing_mode": {"type": "flexible"},
        "payment_behavior": "allow_incomplete",
        "metadata": metadata,
        "expand": EXPAND,
    }
    if card := stripe_id_of(
        plain(client.v1.subscriptions.retrieve(row.stripe_id)).get("default_payment_method")
    ):
        params["default_payment_method"] = card  # Checkout sets it on the subscription, not on the customer
    if row.status == "trialing" and row.subscription.trial_ends_at is not None:
        params["trial_end"] = int(row.subscription.trial_ends_at.timestamp())
    if not price.credit_minor:
        return client.v1.subscriptions.create(params, once_at("upgrade", *key, at=at))
    item = _credit(row, price, customer, at)
    metadata |= {CREDIT_ITEM: item.id, CREDIT_AMOUNT: str(price.credit_minor)}
    try:
        return client.v1.subscriptions.create(params, once_at("upgrade", *key, at=at))
    except stripe.StripeError:
        with suppress(
            stripe.StripeError
        ):  # on an invoice by now, or Stripe is away: the next upgrade looks for it
            client.v1.invoice_items.delete(item.id)
        raise


def _credit(row: StripeSubscription, price: UpgradePrice, customer: str, at: datetime) -> stripe.InvoiceItem:
    return stripe_client().v1.invoice_items.create(
        {
            "customer": customer,
            "amount": -price.credit_minor,
            "currency": price.currency.lower(),
            "description": credit_text(row),
            "metadata": {"farebox_credit_of": row.stripe_id},
        },
        once_at("credit", row.stripe_id, at=at),
    )
