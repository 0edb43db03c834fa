"""The plan: what it includes, change, cancel, undo."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import Role
from billing.adviser import find_advice
from core.clock import now
from core.errors import NotFound, PortalError
from dashboard.access import MemberRequest, member_page
from dashboard.plan_cards import plan_card
from dashboard.plan_status import plan_status
from dashboard.price_lists import choose_lists
from metering.costs import fee_back_minor
from plans.caps import dropped_caps, newest_caps
from plans.models import PlanVersion, Subscription
from plans.queries import current_period, current_subscription, newest_version, public_plans, public_versions
from plans.services import cancel_subscription, change_plan, preview_change, undo_cancellation

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
    if request.method == "POST":
        try:
            change_plan(subscription=subscription, version=version, by=request.user, at=at)
        except PortalError as refused:
            error = refused.detail
        else:
            messages.success(request, f"{version.plan.name} it is.")
            return redirect("dashboard:plan")
    change = preview_change(subscription=subscription, version=version, at=at)
    period = current_period(request.organization, at=at)
    context = {
        "nav": "plan",
        "error": error,
        "subscription": subscription,
        "card": plan_card(version, signed_in=True),
        "change": change,
        "fee_back": fee_back_minor(period, at=at) if change.closes else 0,
        "lost": sorted(set(subscription.version.texts) - set(version.texts)),
        "caps_lost": dropped_caps(newest_caps(request.organization, at=at), version.currency),
    }
    return render(request, "dashboard/plan_change.html", context, status=422 if error else 200)


@require_POST
@member_page(*DECIDERS)
def plan_cancel(request: MemberRequest) -> HttpResponse:
    if request.POST.get("confirm", "").strip() != request.organization.name:
        context = _context(request) | {"cancel_error": "That is not the organization's name."}
        return render(request, "dashboard/plan.html", context, status=422)
    subscription = cancel_subscription(subscription=_subscription(request), by=request.user, at=now())
    messages.success(
        request,
        f"Cancelled. Your keys work until {subscription.cancels_at:%-d %B %Y}; you can undo it until then.",
    )
    return redirect("dashboard:plan")


@require_POST
@member_page(*DECIDERS)
def plan_keep(request: MemberRequest) -> HttpResponse:
    undo_cancellation(subscription=_subscription(request), by=request.user, at=now())
    messages.success(request, "The cancellation is undone. Nothing changes for your keys.")
    return redirect("dashboard:plan")


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
