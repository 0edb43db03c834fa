"""The usage page: what was called, what it costs so far, what was not charged."""

from datetime import datetime

from django.http import HttpResponse
from django.shortcuts import render
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_safe

from core.clock import now
from core.money import Money
from dashboard.access import MemberRequest, member_page, reader_zone
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
def call_list(request: MemberRequest) -> HttpResponse:
    """All calls, newest first, 50 a page by cursor."""
    choices, _ = choices_for(request.organization, request.GET.dict())
    before = _cursor(request.GET.get("before", ""))
    rows = call_rows(request.organization, mode=choices.mode, limit=PAGE_CALLS + 1, before=before)
    page, more = rows[:PAGE_CALLS], len(rows) > PAGE_CALLS
    cursor = f"{page[-1].event.occurred_at.isoformat()}~{page[-1].event.id}" if more else ""
    context = {
        "nav": "usage",
        "calls": page,
        "cursor": cursor,
        "choices": choices,
        "is_first": before is None,
        "zone": reader_zone().key,
    }
    return render(request, "dashboard/call_list.html", context)


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
    return context | {
        "figures": figures(organization, period=period, meter=meter, mode=choices.mode, at=at),
        "chart": period_chart(organization, period=period, meter=meter, choices=choices, zone=zone, at=at),
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
