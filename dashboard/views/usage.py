"""The usage page: what was called, what it costs so far, what was not charged."""

import csv
from collections.abc import Iterable
from datetime import datetime

from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_safe

from core.clock import now
from core.money import Money
from core.spreadsheets import harmless_rows
from dashboard.access import MemberRequest, member_page, reader_zone
from dashboard.advice import advice_line
from dashboard.call_page import csv_rows, narrowed, options
from dashboard.outlook import outlook
from dashboard.plan_status import plan_status
from dashboard.usage_page import bill, call_rows, choice_menus, choices_for, figures, live_chart, period_chart
from keys.queries import list_keys
from metering.spending import spend_position
from plans.models import Period
from plans.queries import find_period, main_meter

PAGE_CALLS = 50


@require_safe
@member_page()
def usage(request: MemberRequest) -> HttpResponse:
    """The page; HTMX asks the same address again for the parts that age."""
    template = "dashboard/usage.html"
    return render(request, f"{template}#fresh" if request.htmx else template, usage_context(request))  # type: ignore[attr-defined]


@require_safe
@member_page()
def call_list(request: MemberRequest) -> HttpResponseBase:
    """Calls, narrowed as asked, newest first, 50 a page by cursor; all of them as CSV."""
    choices, _ = choices_for(request.organization, request.GET.dict())
    zone = reader_zone()
    chosen = narrowed(request.organization, request.GET.dict(), mode=choices.mode, zone=zone)
    if request.GET.get("format") == "csv":
        return _csv(csv_rows(request.organization, chosen))
    before = _cursor(request.GET.get("before", ""))
    rows = call_rows(
        request.organization, mode=choices.mode, limit=PAGE_CALLS + 1, before=before, narrowed=chosen.events
    )
    page, more = rows[:PAGE_CALLS], len(rows) > PAGE_CALLS
    cursor = f"{page[-1].event.occurred_at.isoformat()}~{page[-1].event.id}" if more else ""
    context = {
        "nav": "usage",
        "calls": page,
        "cursor": cursor,
        "older_url": chosen.address(before=cursor) if cursor else "",
        "newest_url": chosen.address() if before else "",
        "csv_url": chosen.address(format="csv"),
        "choices": choices,
        "chosen": chosen,
        "options": options(request.organization),
        "zone": zone.key,
    }
    return render(request, "dashboard/call_list.html", context)


class _Echo:
    """Hands a line on instead of keeping it."""

    def write(self, line: str) -> str:
        return line


def _csv(rows: Iterable[tuple[str, ...]]) -> StreamingHttpResponse:
    writer = csv.writer(_Echo())
    lines = (writer.writerow(row) for row in harmless_rows(rows))
    answer = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = 'attachment; filename="calls.csv"'
    return answer


def usage_context(request: MemberRequest) -> dict[str, object]:
    """Everything the usage page shows."""
    organization, at = request.organization, now()
    choices, is_test_unasked = choices_for(organization, request.GET.dict())
    period, zone = find_period(organization, at=at), reader_zone()
    meter = main_meter(period.version) if period else None
    context: dict[str, object] = {
        "nav": "usage",
        "choices": choices,
        "is_test_unasked": is_test_unasked,
        "zone": zone.key,
        "at": at,
        "period": period,
        "menus": choice_menus(choices),
    }
    if period is None or meter is None:
        return context
    rated, bill_rows = bill(organization, period=period, at=at)
    calls = call_rows(organization, mode=choices.mode)
    position = spend_position(organization, at=at, rated=rated)
    ahead = None
    if choices.mode == "live":
        ahead = outlook(organization, period=period, meter=meter, zone=zone, at=at)
    is_whole = not request.htmx  # type: ignore[attr-defined]
    return context | {
        "outlook": ahead,
        "advice": advice_line(organization, period=period, at=at) if is_whole else None,
        "figures": figures(organization, period=period, meter=meter, mode=choices.mode, at=at),
        "chart": period_chart(
            organization,
            period=period,
            meter=meter,
            choices=choices,
            zone=zone,
            at=at,
            expected=ahead.daily if ahead else None,
        ),
        "live": live_chart(organization, mode=choices.mode, zone=zone, at=at),
        "calls": calls,
        "cost_text": str(Money(rated.total_minor, rated.currency)),
        "cost_note": _cost_note(period),
        "bill_rows": bill_rows,
        "position": position,
        "status": plan_status(period.subscription, at=at),
        "has_calls": bool(calls),
        "has_keys": bool(calls) or bool(list_keys(organization)),
        "meter": meter,
    }


def _cost_note(period: Period) -> str:
    if period.is_trial:
        return "nothing is charged in the trial"
    return f"period ends {period.ends_at:%-d %b}"


def _cursor(text: str) -> tuple[datetime, str] | None:
    """The last call of the page before: its time and id. Anything else begins at the newest."""
    moment, _, identifier = text.partition("~")
    try:
        parsed = parse_datetime(moment)
    except ValueError:
        return None
    return (parsed, identifier) if parsed and parsed.tzinfo and len(identifier) == 36 else None
