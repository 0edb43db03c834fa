"""How an organization pays, in words, with what to do next: on the plan page and beside its invoices."""

from dataclasses import dataclass
from datetime import datetime

from accounts.models import Organization
from billing.collection import failed_invoices
from billing.models import PaymentEntry, StripeCustomer, StripeInvoice, StripeUpgrade
from billing.stripe.checkout import paying, takes_cards
from billing.stripe.upgrades import waiting_upgrade
from plans.models import Subscription, SubscriptionStatus

TIMELINE_LENGTH = 20


@dataclass(frozen=True, slots=True)
class PaymentCard:
    """`pays` a subscription runs at Stripe; `can_pay` the present plan can be paid by card now; `card` names the card;
    `waits` is an upgrade that the customer has to confirm with the bank; `unpaid` could not be charged; `by_hand` the plan is
    paid by invoice, because no card can be taken for it; `is_paused` nothing is charged until there is one."""

    pays: bool
    can_pay: bool
    is_customer: bool
    card: str
    price: str
    next_charge: datetime | None
    waits: StripeUpgrade | None = None
    unpaid: tuple[StripeInvoice, ...] = ()
    by_hand: bool = False
    is_paused: bool = False


def payment_card(organization: Organization, subscription: Subscription) -> PaymentCard | None:
    """None where nothing is to be paid: a free plan without a history of cards."""
    row = paying(organization)
    customer = StripeCustomer.objects.for_organization(organization).first()
    can_pay = row is None and not subscription.version.is_free and takes_cards(subscription.version)
    if row is None and customer is None and subscription.version.is_free:
        return None
    return PaymentCard(
        pays=row is not None,
        can_pay=can_pay,
        is_customer=customer is not None,
        card=customer.card if customer is not None else "",
        price=str(subscription.version.plan.name),
        next_charge=row.current_period_end if row is not None and row.cancels_at is None else None,
        waits=waiting_upgrade(organization) if row is not None else None,
        by_hand=row is None and not can_pay and not subscription.version.is_free,
        unpaid=tuple(failed_invoices(organization)) if customer is not None and _owes(subscription) else (),
        is_paused=row is not None and row.status == "paused",
    )


def _owes(subscription: Subscription) -> bool:
    return subscription.status in (SubscriptionStatus.PAST_DUE, SubscriptionStatus.SUSPENDED)


def card_invoices(organization: Organization, *, limit: int = 50) -> list[StripeInvoice]:
    """What Stripe asked for, newest first; drafts are not shown."""
    rows = StripeInvoice.objects.for_organization(organization).exclude(state="draft")
    return list(rows.order_by("-created_at", "-pk")[:limit])


def payment_timeline(organization: Organization) -> list[PaymentEntry]:
    """What was paid, failed, went back: the last things that happened."""
    rows = PaymentEntry.objects.for_organization(organization).select_related("invoice")
    return list(rows[:TIMELINE_LENGTH])
