"""The quick start: what is done already, and the first call to copy."""

from dataclasses import dataclass

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from accounts.models import Organization
from dashboard.access import MemberRequest, member_page
from dashboard.snippets import PLACEHOLDER, first_call_snippets, first_call_url
from keys.queries import list_keys
from metering.queries import latest_event_at
from plans.models import Product


@dataclass(frozen=True, slots=True)
class Step:
    """One step to the first call; it ticks itself."""

    title: str
    is_done: bool
    url: str
    action: str


@require_safe
@member_page()
def quick_start(request: MemberRequest) -> HttpResponse:
    products = (
        Product.objects.filter(is_active=True, archived_at=None).prefetch_related("routes").order_by("name")
    )
    context = {
        "nav": "quickstart",
        "steps": _steps(request),
        "url": first_call_url(),
        "snippets": first_call_snippets(),
        "placeholder": PLACEHOLDER,
        "products": products,
    }
    return render(request, "dashboard/quick_start.html", context)


def _steps(request: MemberRequest) -> list[Step]:
    organization: Organization = request.organization
    confirmed = request.user.emailaddress_set.filter(verified=True).exists()
    return [
        Step("Create a key", bool(list_keys(organization)), reverse("dashboard:key-create"), "Create a key"),
        Step(
            "Make your first call", latest_event_at(organization) is not None, "#first-call", "Copy it below"
        ),
        Step(
            "Confirm your address for live keys", confirmed, reverse("account_email"), "Send the link again"
        ),
    ]
