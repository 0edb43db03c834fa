"""To the payment pages and back: Checkout, and the customer portal for cards, addresses and tax ids."""

from collections.abc import Callable

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from accounts.models import Role, User
from billing.models import StripeUpgrade, UpgradeState
from billing.stripe.checkout import PlanNotAtStripe, finish_checkout, portal_url, start_checkout
from billing.stripe.client import StripeAway, StripeNotConfigured
from billing.stripe.upgrades import drop_upgrade, look_at_upgrade
from core.clock import now
from core.errors import NotFound, PortalError
from dashboard.access import MemberRequest, member_page
from keys.models import ApiKey, Mode
from plans.models import PlanVersion, Subscription
from plans.queries import current_subscription

PAYERS = (Role.OWNER, Role.ADMIN, Role.BILLING)


def refusal_words(error: PortalError, user: User) -> str:
    """What a page says of it. What the operator has to do is told to staff only; it says nothing to customers."""
    if isinstance(error, StripeNotConfigured | PlanNotAtStripe) and not user.is_staff:
        return "No card can be taken for this plan yet. Nothing was changed or charged; write to support to pay by invoice."
    return error.detail if error.detail == error.title else f"{error.title}. {error.detail}"


class ToStripe(HttpResponseRedirect):
    """303: the form was posted to us, the page is fetched."""

    status_code = 303


@require_POST
@member_page(*PAYERS)
def pay(request: MemberRequest) -> HttpResponse:
    """Pay for the present plan."""
    try:
        url = start_checkout(
            organization=request.organization,
            version=_version(request),
            return_url=absolute("dashboard:payment-return"),
            cancel_url=absolute("dashboard:plan"),
            by=request.user,
            at=now(),
        )
    except PortalError as error:
        messages.error(request, refusal_words(error, request.user))
        return redirect("dashboard:plan")
    return ToStripe(url)


@require_safe
@member_page()
def payment_return(request: MemberRequest) -> HttpResponse:
    """Where Checkout leads back to. The session is fetched here: nobody waits for a webhook."""
    try:
        session_id = request.GET.get("session_id", "")
        paid = bool(session_id) and finish_checkout(
            organization=request.organization, session_id=session_id, at=now()
        )
    except StripeAway as error:
        messages.warning(request, f"{error.title}. Your plan changes as soon as it does.")
        return redirect("dashboard:plan")
    except PortalError:  # Stripe knows no such session: an old link, or not one of ours
        paid = False
    if paid:
        has_key = (
            ApiKey.objects.for_organization(request.organization)
            .usable(now())
            .filter(mode=Mode.LIVE)
            .exists()
        )
        live = "Your live keys work." if has_key else "Create a live key under API keys."
        messages.success(request, f"Thank you. Your plan goes on by itself. {live}")
    else:
        messages.warning(request, "Nothing was paid yet. You can try again.")
    return redirect("dashboard:plan")


@require_POST
@member_page(*PAYERS)
def payment_portal(request: MemberRequest) -> HttpResponse:
    try:
        url = portal_url(
            organization=request.organization,
            return_url=absolute("dashboard:plan"),
            by=request.user,
            at=now(),
        )
    except PortalError as error:
        messages.error(request, refusal_words(error, request.user))
        return redirect("dashboard:plan")
    return ToStripe(url)


@require_POST
@member_page(*PAYERS)
def upgrade_confirm(request: MemberRequest) -> HttpResponse:
    """To the bank's question once more, unless it is answered: Stripe is asked, so that nobody waits for a webhook."""
    return _after_looking(request, look_at_upgrade)


@require_POST
@member_page(*PAYERS)
def upgrade_drop(request: MemberRequest) -> HttpResponse:
    """Leave an upgrade that waits for the bank."""
    return _after_looking(request, drop_upgrade)


def _after_looking(request: MemberRequest, act: Callable[..., StripeUpgrade | None]) -> HttpResponse:
    try:
        found = act(organization=request.organization, by=request.user, at=now())
    except PortalError as error:
        messages.error(request, refusal_words(error, request.user))
        return redirect("dashboard:plan")
    if found is not None and found.state == UpgradeState.WAITING:
        return ToStripe(found.url)
    if found is not None and found.state == UpgradeState.PAID:
        messages.success(request, f"Thank you. {found.version.plan.name} it is.")
    elif found is not None:
        messages.info(request, "Nothing was charged, and your plan stays as it is.")
    return redirect("dashboard:plan")


def _version(request: MemberRequest) -> PlanVersion:
    try:
        return current_subscription(request.organization, at=now()).version
    except Subscription.DoesNotExist:
        raise NotFound from None


def absolute(name: str) -> str:
    return f"{settings.PORTAL_URL}{reverse(name)}"
