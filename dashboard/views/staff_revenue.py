"""Revenue, for the owner's staff: where it comes from and how it moves."""

import csv

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from billing.revenue_definitions import MOVEMENTS
from billing.revenue_report import RevenueReport, revenue_choices, revenue_report
from core.clock import now
from dashboard.access import staff_page
from dashboard.revenue_page import choose, csv_rows, figures, month_rows, movement_chart, shown_months


@require_safe
@staff_page
def revenue(request: HttpRequest) -> HttpResponse:
    """One month of one currency, with up to eleven before it."""
    at = now()
    choices = revenue_choices(at=at)
    month, currency = choose(request.GET.dict(), choices)
    report = revenue_report(month=month, currency=currency, at=at, count=shown_months(choices, month))
    context = {
        "nav": "staff-revenue",
        "staff_page": True,
        "report": report,
        "choices": choices,
        "month": month,
        "figures": figures(report),
        "movements": MOVEMENTS,
        "chart": movement_chart(report),
        "month_rows": month_rows(report),
    }
    return render(request, "dashboard/staff_revenue.html", context)


@require_safe
@staff_page
def revenue_csv(request: HttpRequest) -> HttpResponse:
    """The months of the page for spreadsheets."""
    at = now()
    choices = revenue_choices(at=at)
    month, currency = choose(request.GET.dict(), choices)
    count = shown_months(choices, month)
    return _csv_response(revenue_report(month=month, currency=currency, at=at, count=count))


def _csv_response(report: RevenueReport) -> HttpResponse:
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    name = f"revenue-{report.currency}-{report.now.month:%Y-%m}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    csv.writer(response).writerows(csv_rows(report))
    return response
