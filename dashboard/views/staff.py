"""Pages for the owner's staff."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from core.clock import now
from dashboard.access import staff_page
from dashboard.staff_page import overview as read_overview


@require_safe
@staff_page
def overview(request: HttpRequest) -> HttpResponse:
    context = {"nav": "staff-overview", "staff_page": True, "overview": read_overview(at=now())}
    return render(request, "dashboard/staff_overview.html", context)
