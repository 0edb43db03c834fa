"""Paying begins in the browser, on Stripe's own pages: Checkout for the first time, the customer portal for cards and tax."""

from datetime import datetime, timedelta
from typing import Any

from accounts.models import Organization, User
from accounts.permissions import check_can_decide_plan
from accounts.queries import has_confirmed_address
from billing.accounts import get_account
from billing.models import StripePrice, StripeSubscription
from billing.stripe.client import (
    StripeNotConfigured,
    for_people,
    is_configured,
    once,
    once_at,
    plain,
    stripe_client,
    stripe_id_of,
)
from billing.stripe.customers import customer_lock, ensure_customer
from billing.stripe.sync import sync_subscription
from core.errors import PortalError
from plans.models import PlanVersion, Subscription, SubscriptionStatus, VersionState

# Checkout takes no end of a trial that is nearer than two days; some minutes are left for typing.
SHORTEST_TRIAL = timedelta(hours=48, minutes=30)


class AddressNotConfirmed(PortalError):
    code, status = "address_not_confirmed", 403
    title = "Confirm your address first: the payment waits for it"


class AlreadyPaying(PortalError):
    code, status, title = "already_paying", 409, "A payment method is set up already"


class PlanNotAtStripe(PortalError):
    code, status, title = "plan_not_payable", 503, "This plan cannot be paid by card yet"


class MonthEndsSoon(PortalError):
    code, status, title = "month_ends_soon", 409, "This period is collected by hand and ends soon"


class DebtFirst(PortalError):
    code, status, title = "debt_first", 409, "An invoice is overdue"


def takes_cards(version: PlanVersion) -> bool:
    """Whether this list can be paid by card now: Stripe is set up and has its prices."""
    return is_configured() and StripePrice.objects.filter(version=version).exists()


def check_can_pay(by: User | None, organization: Organization) -> None:
    """Raises Forbidden, or AddressNotConfirmed: as for live keys, an invoice has to reach somebody."""
    check_can_decide_plan(by, organization)
    if by is not None and not by.is_staff and not has_confirmed_address(by):
        raise AddressNotConfirmed("Open the link in the mail that we sent you; Profile sends it again.")


def paying(organization: Organization) -> StripeSubscription | None:
    """The organization's open subscription at Stripe."""
    rows = StripeSubscription.objects.for_organization(organization).filter(ended_at=None)
    return rows.select_related("version__plan", "subscription").first()


@for_people()
def start_checkout(
    *,
    organization: Organization,
    version: PlanVersion,
    return_url: str,
    cancel_url: str,
    by: User | None,
    at: datetime,
) -> str:
    """The address of a page of Stripe where the customer pays for this list; it leads back to `return_url`.

    A trial that goes on for more than two days goes on at Stripe. An earlier page that was not finished is closed. Raises
    Forbidden, AddressNotConfirmed, AlreadyPaying, PlanNotAtStripe, StripeNotConfigured, StripeAway or StripeRefused.
    """
    check_can_decide_plan(by, organization)
    if not is_configured():  # said before what the customer could do, which would lead nowhere
        raise StripeNotConfigured("The operator has to set STRIPE_SECRET_KEY (docs/stripe.md).")
    check_can_pay(by, organization)
    get_account(organization)  # made before the lock: nobody waits for its row while Stripe is asked
    with customer_lock(organization.pk):
        if version.state != VersionState.PUBLISHED and not _is_on(organization, version):
            raise PlanNotAtStripe("This list is no longer sold: choose a plan.")
        if paying(organization) is not None:
            raise AlreadyPaying("Change the plan instead.")
        customer = ensure_customer(organization)
        sessions = stripe_client().v1.checkout.sessions
        closed = ""  # the page that this one follows: also within one second it is another act
        for old in sessions.list({"customer": customer.stripe_id, "status": "open"}).auto_paging_iter():
            sessions.expire(old.id, options=once("expire", old.id))
            closed = old.id
        metadata = {"farebox_organization": organization.public_id, "farebox_version": str(version.pk)}
        subscription: dict[str, Any] = {"metadata": metadata, "billing_mode": {"type": "flexible"}}
        if trial_end := _trial_end(organization, version, at):
            subscription["trial_end"] = int(trial_end.timestamp())
        params: Any = {
            "mode": "subscription",
            "customer": customer.stripe_id,
            "client_reference_id": organization.public_id,
            "line_items": checkout_items(version),
            "metadata": metadata,
            "subscription_data": subscription,
            "payment_method_collection": "always",
            "success_url": f"{return_url}?session_id={{CHECKOUT_SESSION_ID}}",
            "cancel_url": cancel_url,
        }
        made = sessions.create(params, once_at("checkout", organization.public_id, version.pk, closed, at=at))
    return str(made.url)


@for_people()
def finish_checkout(*, organization: Organization, session_id: str, at: datetime) -> bool:
    """Fetch the session that the browser came back from, so that nobody waits for a webhook; whether it is paid.

    A session of somebody else is as unknown as one that does not exist. Raises StripeAway or
    StripeRefused.
    """
    session = plain(stripe_client().v1.checkout.sessions.retrieve(session_id))
    if session.get("client_reference_id") != organization.public_id or session["status"] != "complete":
        return False
    found = stripe_id_of(session.get("subscription"))
    if not found:
        return False
    with customer_lock(organization.pk):
        return sync_subscription(found, at=at) is not None


@for_people()
def portal_url(*, organization: Organization, return_url: str, by: User | None, at: datetime) -> str:
    """Stripe's customer portal: payment method, addresses, tax ids. Raises Forbidden, StripeAway or StripeRefused."""
    check_can_decide_plan(by, organization)
    customer = ensure_customer(organization)
    made = stripe_client().v1.billing_portal.sessions.create(
        {"customer": customer.stripe_id, "return_url": return_url},
        once_at("portal", organization.public_id, at=at),
    )
    return made.url


def checkout_items(version: PlanVersion) -> list[Any]:
    """The version's prices as items of a subscription: the fee once, what is metered without a quantity."""
    prices = list(StripePrice.objects.filter(version=version).order_by("component__position", "pk"))
    if not prices:
        raise PlanNotAtStripe("The operator has to run `manage.py stripe_catalogue apply`.")
    return [{"price": price.stripe_id} | ({} if price.component_id else {"quantity": 1}) for price in prices]


def _is_on(organization: Organization, version: PlanVersion) -> bool:
    """Who is on a list that is no longer sold may stay on it."""
    rows = Subscription.objects.for_organization(organization)
    return rows.filter(ended_at=None, version=version).exists()


def _trial_end(organization: Organization, version: PlanVersion, at: datetime) -> datetime | None:
    """The end of the present trial, or of the one that begins with the card; None where months begin now. A month that is
    collected by hand is paid for: the card's begin after it, which Stripe calls a trial, too. Raises MonthEndsSoon,
    or DebtFirst."""
    open_now = Subscription.objects.for_organization(organization).filter(ended_at=None).first()
    if open_now is None or open_now.version.is_free:
        had_one = organization.subscriptions.exclude(trial_ends_at=None).exists()
        end = at.replace(microsecond=0) + timedelta(days=version.trial_days)
        return end if version.trial_days and not had_one else None
    if open_now.version_id != version.pk:
        return None
    if open_now.status == SubscriptionStatus.TRIALING:
        ends_at = open_now.trial_ends_at
        return ends_at if ends_at is not None and ends_at - at >= SHORTEST_TRIAL else None
    if open_now.status != SubscriptionStatus.ACTIVE:
        raise DebtFirst("Pay the overdue invoice; then add the card.")
    month = open_now.periods.filter(starts_at__lte=at).latest("starts_at")
    if month.ends_at - at < SHORTEST_TRIAL:
        raise MonthEndsSoon(f"Your period ends on {month.ends_at:%-d %B}. Add the card after that.")
    return month.ends_at
