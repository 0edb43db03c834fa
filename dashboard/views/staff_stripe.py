"""Staff see what Stripe was told of usage and what it was not, and send again what was refused."""

from datetime import timedelta
from typing import cast
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.timesince import timesince
from django.views.decorators.http import require_http_methods, require_safe

from accounts.models import Organization, User
from billing.models import StripeUsage
from billing.stripe.client import is_configured
from billing.stripe.outbox import PERMISSION, UsageNotOpen, send_again
from billing.stripe.usage_queries import SHOWN_STATES, outbox, usage_rows, waiting_customers
from core.clock import now
from dashboard.access import staff_page
from dashboard.reauthentication import recently_proven

PAGE = 50
LATE = timedelta(hours=2)  # rows are made and sent hourly


@require_safe
@staff_page
def usage(request: HttpRequest) -> HttpResponse:
    """The outbox: figures, customers who wait, and rows by state, newest first."""
    if not is_configured() and not StripeUsage.objects.exists():
        return render(
            request, "dashboard/staff_stripe_usage.html", {"nav": "staff-stripe", "staff_page": True}
        )
    chosen = {
        "state": state if (state := request.GET.get("state", "")) in SHOWN_STATES else "",
        "customer": request.GET.get("customer", ""),
    }
    organization = (
        Organization.objects.filter(public_id=chosen["customer"]).first() if chosen["customer"] else None
    )
    rows = usage_rows(state=chosen["state"], organization=organization)
    before = request.GET.get("before", "")
    if before.isdecimal() and len(before) < 19:
        rows = rows.filter(pk__lt=int(before))
    shown = list(rows[: PAGE + 1])
    has_older, shown = len(shown) > PAGE, shown[:PAGE]
    at = now()
    figures = outbox(at=at)
    context = {
        "nav": "staff-stripe",
        "staff_page": True,
        "outbox": figures,
        "lag": f"the oldest for {timesince(figures.oldest_at, at)}" if figures.oldest_at else "nothing waits",
        "is_late": figures.oldest_at is not None and at - figures.oldest_at > LATE,
        "is_configured": is_configured(),
        "customers": waiting_customers(),
        "customer": organization,
        "rows": shown,
        "shown_text": f"{len(shown)} row{'' if len(shown) == 1 else 's'}",
        "states": SHOWN_STATES,
        "state": chosen["state"],
        "newest_url": _address(chosen) if before else "",
        "older_url": _address(chosen | {"before": str(shown[-1].pk)}) if has_older else "",
        "may_act": request.user.has_perm(PERMISSION),
    }
    return render(request, "dashboard/staff_stripe_usage.html", context)


@require_http_methods(["GET", "POST"])
@staff_page
@recently_proven
def again(request: HttpRequest, identifier: str) -> HttpResponse:
    """Send a refused row, or one of unknown fate, again; a GET, as after asking for the password, shows the page."""
    row = get_object_or_404(StripeUsage, identifier=identifier)
    if request.method == "POST":
        try:
            send_again(row=row, by=cast(User, request.user), at=now())
            messages.success(request, "It is sent with the next run, within five minutes.")
        except UsageNotOpen as refused:
            messages.error(request, refused.title)
    return redirect("dashboard:staff-stripe-usage")


def _address(chosen: dict[str, str]) -> str:
    return "?" + urlencode({name: value for name, value in chosen.items() if value})
