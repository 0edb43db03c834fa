"""The plan: what it includes, change, cancel, undo."""

from collections.abc import Callable
from datetime import datetime

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import Role
from billing.adviser import find_advice
from billing.collection import failed_invoices
from billing.stripe.changes import cancel_paid_plan, change_paid_plan, keep_paid_plan
from billing.stripe.checkout import paying, start_checkout, takes_cards
from billing.stripe.client import StripeNotConfigured, is_configured
from billing.stripe.quotes import quote_upgrade
from billing.stripe.upgrades import UpgradePrice
from core.clock import now
from core.errors import NotFound, PortalError
from dashboard.access import MemberRequest, member_page
from dashboard.payment_card import payment_card
from dashboard.plan_cards import plan_card
from dashboard.plan_status import plan_status
from dashboard.price_lists import choose_lists
from dashboard.views.payment import ToStripe, absolute, refusal_words
from metering.costs import fee_back_minor
from plans.caps import dropped_caps, newest_caps
from plans.models import PlanVersion, Subscription
from plans.overrides import agreed_limits
from plans.queries import current_period, current_subscription, newest_version, public_plans, public_versions
from plans.services import cancel_subscription, change_plan, is_upgrade, preview_change, undo_cancellation

DECIDERS = (Role.OWNER, Role.ADMIN, Role.BILLING)


@require_safe
@member_page()
def plan(request: MemberRequest) -> HttpResponse:
    return render(request, "dashboard/plan.html", _context(request))


@require_http_methods(["GET", "POST"])
@member_page(*DECIDERS)
def plan_change(request: MemberRequest, slug: str) -> HttpResponse:
    at, subscription = now(), _subscription(request)
    version = _version_on_sale(request, slug, subscription)
    error = ""
    if request.method != "POST" and _is_settled(subscription, version, at):
        return redirect("dashboard:plan")
    if request.method == "POST":
        try:
            if checkout := _change(request, subscription, version, at):
                return ToStripe(checkout)
        except PortalError as refused:
            error = refusal_words(refused, request.user)
        else:
            messages.success(request, _done(request, version, at))
            return redirect("dashboard:plan")
    change = preview_change(subscription=subscription, version=version, at=at)
    price, quote, refusal = _upgrade_price(request, version, at)
    period = current_period(request.organization, at=at)
    context = {
        "nav": "plan",
        "error": error or refusal,
        "subscription": subscription,
        "card": plan_card(version, signed_in=True),
        "change": change,
        "fee_back": fee_back_minor(period, at=at) if change.closes else 0,
        "lost": sorted(set(subscription.version.texts) - set(version.texts)),
        "upgrade_price": price,
        "quote": quote,
        "no_price": bool(refusal),
        "owed": failed_invoices(request.organization).first() if price is not None else None,
        "by_checkout": _needs_checkout(request, subscription, version, at),
        "by_invoice": _needs_invoice(request, subscription, version, at),
        "caps_lost": dropped_caps(newest_caps(request.organization, at=at), version.currency),
    }
    return render(request, "dashboard/plan_change.html", context, status=422 if error else 200)


@require_POST
@member_page(*DECIDERS)
def plan_cancel(request: MemberRequest) -> HttpResponse:
    if request.POST.get("confirm", "").strip() != request.organization.name:
        context = _context(request) | {"cancel_error": "That is not the organization's name."}
        return render(request, "dashboard/plan.html", context, status=422)
    return _done_or_told(request, _cancel)


@require_POST
@member_page(*DECIDERS)
def plan_keep(request: MemberRequest) -> HttpResponse:
    """Take back what waits for the end of the period: a cancellation, or a change to another plan."""
    return _done_or_told(request, _keep)


def _done_or_told(request: MemberRequest, act: Callable[[MemberRequest, datetime], str]) -> HttpResponse:
    """The plan page with what was done, or why it was not."""
    try:
        messages.success(request, act(request, now()))
    except StripeNotConfigured:  # the key was taken away while cards are charged
        messages.error(request, "Card payments do not work here now. Nothing was changed; write to support.")
    except PortalError as refused:
        messages.error(request, refusal_words(refused, request.user))
    return redirect("dashboard:plan")


def _cancel(request: MemberRequest, at: datetime) -> str:
    owner = request.organization
    if paying(owner) is not None:
        subscription = cancel_paid_plan(organization=owner, by=request.user, at=at)
    else:
        subscription = cancel_subscription(subscription=_subscription(request), by=request.user, at=at)
    return f"Cancelled. Your keys work until {subscription.cancels_at:%-d %B %Y}; you can undo it until then."


def _keep(request: MemberRequest, at: datetime) -> str:
    owner, subscription = request.organization, _subscription(request)
    if subscription.cancels_at is None and subscription.next_version is not None:
        own = subscription.version
        if paying(owner) is not None:
            change_paid_plan(organization=owner, version=own, by=request.user, at=at)
        else:
            change_plan(subscription=subscription, version=own, by=request.user, at=at)
        return f"The change is taken back: {own.plan.name} goes on."
    if paying(owner) is not None:
        keep_paid_plan(organization=owner, by=request.user, at=at)
    else:
        undo_cancellation(subscription=subscription, by=request.user, at=at)
    return "The cancellation is undone. Nothing changes for your keys."


def _change(request: MemberRequest, subscription: Subscription, version: PlanVersion, at: datetime) -> str:
    """Carry the change out, where it is paid; '' then. Else the address of the page where it is paid first."""
    if paying(request.organization) is not None:
        return change_paid_plan(
            organization=request.organization, version=version, by=request.user, at=at,
            quote=request.POST.get("quote", ""),
        )  # fmt: skip
    if _needs_checkout(request, subscription, version, at):
        return start_checkout(
            organization=request.organization, version=version, return_url=absolute("dashboard:payment-return"),
            cancel_url=absolute("dashboard:plan"), by=request.user, at=at,
        )  # fmt: skip
    change_plan(subscription=subscription, version=version, by=request.user, at=at)
    return ""


def _is_settled(subscription: Subscription, version: PlanVersion, at: datetime) -> bool:
    """Nothing to change: the list runs already, and goes on."""
    waits = subscription.next_version is not None or subscription.cancels_at is not None
    return version == subscription.version and not waits and not plan_status(subscription, at=at).is_closed


def _done(request: MemberRequest, version: PlanVersion, at: datetime) -> str:
    if _subscription(request).version_id == version.pk:
        return f"{version.plan.name} it is."
    return f"You change to {version.plan.name} at the end of this period. Nothing changes before."


def _needs_checkout(
    request: MemberRequest, subscription: Subscription, version: PlanVersion, at: datetime
) -> bool:
    """A paid plan without a payment method: at once, unless a trial without a card goes before it."""
    if version.is_free or paying(request.organization) is not None or not takes_cards(version):
        return False
    has_trial = bool(version.trial_days) and not settings.STRIPE_TRIAL_NEEDS_CARD
    return not has_trial or request.organization.subscriptions.exclude(trial_ends_at=None).exists()


def _needs_invoice(
    request: MemberRequest, subscription: Subscription, version: PlanVersion, at: datetime
) -> bool:
    """A paid plan that nobody can begin alone: no card can be taken for it, and there is no trial before it any more."""
    if version.is_free or paying(request.organization) is not None or takes_cards(version):
        return False
    begins = subscription.version.is_free or plan_status(subscription, at=at).is_closed
    has_trial = bool(version.trial_days)
    return begins and not (
        has_trial and not request.organization.subscriptions.exclude(trial_ends_at=None).exists()
    )


def _upgrade_price(
    request: MemberRequest, version: PlanVersion, at: datetime
) -> tuple[UpgradePrice | None, str, str]:
    """What an upgrade charges at once, where the plan is paid by card, and the same signed; or why it cannot be said now."""
    row = paying(request.organization)
    if row is None or not is_upgrade(row.version, version):
        return None, "", ""
    try:
        return *quote_upgrade(row, version, at=at), ""
    except PortalError as refused:
        return None, "", refusal_words(refused, request.user)


def _context(request: MemberRequest) -> dict[str, object]:
    subscription = _subscription(request)
    current = subscription.version if subscription.ended_at is None else None
    choice = choose_lists(request, own=current)
    versions = public_versions(choice.currency, choice.interval)
    return {
        "advice": find_advice(request.organization, at=now()),
        "nav": "plan",
        "subscription": subscription,
        "status": plan_status(subscription, at=now()),
        "choice": choice,
        "plans": [plan_card(version, current=current, signed_in=True) for version in versions],
        "card": plan_card(subscription.version, current=current, signed_in=True),
        "agreed": agreed_limits(request.organization, at=now()),
        "payment": payment_card(request.organization, subscription),
        "cards_work": is_configured(),
        "can_decide": request.membership.role in DECIDERS,
    }


def _subscription(request: MemberRequest) -> Subscription:
    try:
        return current_subscription(request.organization, at=now())
    except Subscription.DoesNotExist:
        raise NotFound from None


def _version_on_sale(request: MemberRequest, slug: str, subscription: Subscription) -> PlanVersion:
    """The list that was chosen; without a choice the one in the subscription's own currency and interval, if there is."""
    if not public_plans().filter(slug=slug).exists():
        raise NotFound
    own = subscription.version
    asked = (request.GET.get("currency", ""), request.GET.get("interval", ""))
    for currency, interval in (asked,) if any(asked) else ((own.currency, own.interval), ("", "")):
        try:
            return newest_version(slug, currency=currency, interval=interval)
        except PlanVersion.DoesNotExist:
            continue
    raise NotFound
