"""Margins, for the owner's staff: what calls cost beside what they brought."""

import csv

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from billing.margin_definitions import DEFINITIONS
from billing.margin_report import margin_report
from billing.revenue_report import revenue_choices
from core.clock import now
from core.errors import NotFound
from core.spreadsheets import harmless_rows
from dashboard.access import staff_page
from dashboard.margins_page import (
    PARTS,
    ask,
    csv_rows,
    customer_page,
    plan_rows,
    price_words,
    route_rows,
)
from dashboard.revenue_page import percent


@require_safe
@staff_page
def margins(request: HttpRequest) -> HttpResponse:
    """One month, or what runs now, of one currency: by plan, customer and route."""
    at = now()
    choices = revenue_choices(at=at)
    asked = ask(request.GET.dict(), choices)
    report = margin_report(month=asked.month, currency=asked.currency, at=at)
    factor = settings.COST_MARGIN_FACTOR
    context = {
        "nav": "staff-margins",
        "staff_page": True,
        "report": report,
        "choices": choices,
        "asked": asked,
        "factor": factor,
        "rate": percent(report.total.rate),
        "is_thin": report.total.is_thin(factor),
        "plans": plan_rows(report, factor=factor),
        "customers": customer_page(report, asked, factor=factor),
        "routes": route_rows(report, factor=factor),
        "prices": price_words(report),
        "definitions": DEFINITIONS,
    }
    return render(request, "dashboard/staff_margins.html", context)


@require_safe
@staff_page
def margins_csv(request: HttpRequest, part: str) -> HttpResponse:
    """A part of the page for spreadsheets, all of its rows."""
    if part not in PARTS:
        raise NotFound
    at = now()
    asked = ask(request.GET.dict(), revenue_choices(at=at))
    report = margin_report(month=asked.month, currency=asked.currency, at=at)
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    name = f"margins-by-{part}-{asked.currency}-{asked.month_text}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    csv.writer(response).writerows(harmless_rows(csv_rows(report, part)))
    return response
