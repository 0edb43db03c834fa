"""Pages for everybody: what it is, what it costs, what errors mean."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from accounts.current import current_membership
from core.clock import now
from dashboard.plan_cards import plan_card
from dashboard.price_lists import choose_lists
from dashboard.refusal_docs import all_refusals
from dashboard.snippets import first_call_url
from plans.queries import find_subscription, public_versions


@require_safe
def landing(request: HttpRequest) -> HttpResponse:
    if request.user.is_authenticated:
        return redirect("dashboard:usage")
    context = {"plans": [plan_card(version) for version in public_versions()], "sample_url": first_call_url()}
    return render(request, "public/landing.html", context)


@require_safe
def pricing(request: HttpRequest) -> HttpResponse:
    membership = current_membership(request) if request.user.is_authenticated else None
    subscription = find_subscription(membership.organization, at=now()) if membership else None
    current = subscription.version if subscription and subscription.ended_at is None else None
    choice = choose_lists(request, own=current)
    versions = public_versions(choice.currency, choice.interval)
    cards = [plan_card(version, current=current, signed_in=membership is not None) for version in versions]
    return render(request, "public/pricing.html", {"plans": cards, "choice": choice})


@require_safe
def error_docs(request: HttpRequest) -> HttpResponse:
    """What each error code means and what to do: the address that every problem document's `type` names."""
    return render(request, "public/errors.html", {"refusals": all_refusals()})
