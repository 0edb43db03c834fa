"""Staff see where Stripe and we do not say the same, with both sides and the calls behind, and compare again."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from billing.models import StripeFinding
from billing.stripe.client import is_configured
from billing.stripe.reconcile import can_look_again, look_again
from core.clock import now
from core.errors import PortalError
from dashboard import findings_page
from dashboard.access import staff_page

PAGE = 100


@require_safe
@staff_page
def finding_list(request: HttpRequest) -> HttpResponse:
    """What is open, oldest first; or what was closed last."""
    is_closed = request.GET.get("state") == "closed"
    rows = StripeFinding.objects.select_related("organization")
    rows = rows.exclude(closed_at=None) if is_closed else rows.filter(closed_at=None)
    context = {
        "nav": "staff-findings",
        "staff_page": True,
        "is_closed": is_closed,
        "findings": rows.order_by("-closed_at" if is_closed else "opened_at", "pk")[:PAGE],
        "count": rows.count(),
        "limit": PAGE,
    }
    return render(request, "dashboard/staff_findings.html", context)


@require_safe
@staff_page
def finding(request: HttpRequest, public_id: str) -> HttpResponse:
    """Both sides of one difference. Asks Stripe nothing: it shows what the last comparison found."""
    row = _get(public_id)
    context = {
        "nav": "staff-findings",
        "staff_page": True,
        "finding": row,
        "sides": findings_page.both_sides(row),
        "line_url": findings_page.line_url(row),
        "hours_url": findings_page.hours_url(row),
        "hours": list(findings_page.hours(row)),
        "may_compare": row.closed_at is None and is_configured() and can_look_again(row),
    }
    return render(request, "dashboard/staff_finding.html", context)


@staff_page
@require_POST
def again(request: HttpRequest, public_id: str) -> HttpResponse:
    """Hold both sides against each other now; what has become equal is closed."""
    row = _get(public_id)
    if row.closed_at is None and is_configured() and can_look_again(row):
        try:
            if look_again(row, at=now()):
                messages.success(request, "Both sides are equal now.")
            else:
                messages.warning(request, "They still differ.")
        except PortalError:
            messages.error(request, "Stripe does not answer now. Try again in a minute.")
    return redirect("dashboard:staff-stripe-finding", public_id)


def _get(public_id: str) -> StripeFinding:
    rows = StripeFinding.objects.select_related("organization", "invoice__organization")
    return get_object_or_404(rows, public_id=public_id)
