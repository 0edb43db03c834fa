"""Why a line costs what it does: the line's tiers, their hours, their calls; and from a call back up. For customers and staff."""

import csv
from collections.abc import Iterable

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from billing.explain import NEXT, NOW, OpenedLine, open_document, stored_document
from billing.margin_report import cost_of_call
from billing.models import Statement
from billing.trace import LATE, Trace, find_calls, trace
from billing.wording import quantity_words
from core.clock import now
from core.errors import Forbidden, NotFound
from core.money import format_price
from core.spreadsheets import harmless_rows
from dashboard.access import MemberRequest, member_page, staff_page
from dashboard.explain_page import (
    Addresses,
    Level,
    Selection,
    call_level,
    csv_rows,
    hour_level,
    tier_level,
    words_of,
)
from dashboard.margins_page import call_price
from dashboard.views.invoices import PAYERS
from plans.tiers import ZERO

LEVELS = ("tiers", "hours", "calls")


@require_safe
@member_page()
def line(request: MemberRequest, reference: str, position: int, level: str = "tiers") -> HttpResponse:
    """A line of one's own document; the running period's is for all who see the usage page."""
    if reference != NOW and request.membership.role not in PAYERS:
        raise Forbidden("Documents are for owners, admins and billing members.")
    opened = open_document(request.organization, reference, at=now()).line(position)
    where = _addresses("dashboard:invoice-line", reference, position)
    return _answer(request, opened, level, where, base="base_app.html", crumbs=_crumbs(reference, opened))


@require_safe
@staff_page
def staff_line(request: HttpRequest, public_id: str, position: int, level: str = "tiers") -> HttpResponse:
    """A line of any customer's final document."""
    rows = Statement.objects.select_related("organization", "period__version__plan", "period__organization")
    statement = rows.filter(public_id=public_id).first()
    if statement is None:
        raise NotFound
    where = _addresses("dashboard:staff-line", public_id, position)
    crumbs = [(statement.number, reverse("dashboard:staff-document", args=[public_id]))]
    return _answer(
        request, stored_document(statement).line(position), level, where, base="base_staff.html", crumbs=crumbs
    )  # fmt: skip


@require_safe
@member_page()
def find(request: MemberRequest) -> HttpResponse:
    """A call by its request id: what it cost and where that stands. Only one's own."""
    sought = request.GET.get("find", "")
    found = [trace(event, at=now()) for event in find_calls(sought, organization=request.organization)]
    context = {"nav": "usage", "base": "base_app.html", "is_staff_page": False}
    return render(request, "dashboard/call_find.html", context | _found(request, sought, found))


@require_safe
@staff_page
def staff_find(request: HttpRequest) -> HttpResponse:
    """Any customer's call by its request or event id."""
    sought = request.GET.get("find", "")
    found = [trace(event, at=now()) for event in find_calls(sought)]
    context = {"nav": "staff-correct", "base": "base_staff.html", "staff_page": True, "is_staff_page": True}
    return render(request, "dashboard/call_find.html", context | _found(request, sought, found))


def _answer(
    request: HttpRequest, opened: OpenedLine, level: str, where: Addresses, *, base: str, crumbs: list[tuple[str, str]]
) -> HttpResponse:  # fmt: skip
    chosen = Selection.of(request.GET.dict(), opened)
    if level != "tiers" and not opened.is_metered:
        raise NotFound
    if level == "calls" and chosen.hour is None:
        raise NotFound
    if request.GET.get("format") == "csv":
        return _csv(f"{opened.document.name}-{opened.position}-{level}", csv_rows(opened, level, chosen))
    shown = _level(opened, level, chosen, where)
    query = request.GET.copy()
    query["format"] = "csv"
    context = {
        "nav": _nav(opened, base),
        "base": base,
        "staff_page": base == "base_staff.html",
        "line": opened,
        "level": shown,
        "words": words_of(opened),
        "crumbs": [*crumbs, *_path(opened, level, chosen, where)],
        "chosen": chosen,
        "tier_words": tier_level(opened, where).rows[chosen.tier - 1].label if chosen.tier else "",
        "csv_url": f"?{query.urlencode()}",
        "all_hours": where.hours,
    }
    return render(request, "dashboard/explain.html", context)


def _nav(opened: OpenedLine, base: str) -> str:
    if base != "base_app.html":
        return "staff-billing"
    return "usage" if opened.document.reference == NOW else "invoices"


def _level(opened: OpenedLine, level: str, chosen: Selection, where: Addresses) -> Level:
    if level == "hours":
        return hour_level(opened, chosen, where)
    return call_level(opened, chosen, where) if level == "calls" else tier_level(opened, where)


def _path(opened: OpenedLine, level: str, chosen: Selection, where: Addresses) -> list[tuple[str, str]]:
    """The levels above this one."""
    path = [(opened.line.text, where.line)] if level != "tiers" else []
    if level == "calls":
        path.append((f"Tier {chosen.tier}" if chosen.tier else "Hours", where.of_hours(chosen.tier)))
    return path


def _crumbs(reference: str, opened: OpenedLine) -> list[tuple[str, str]]:
    if reference == NOW:
        return [("Usage", reverse("dashboard:usage"))]
    if reference == NEXT:
        return [("Next statement", reverse("dashboard:invoice-upcoming"))]
    if opened.document.cut_at is None:
        return [("Invoices", reverse("dashboard:invoice-list"))]
    return [(opened.document.name, reverse("dashboard:invoice", args=[opened.document.reference]))]


def _addresses(name: str, reference: str, position: int) -> Addresses:
    args = [reference, position]
    return Addresses(
        reverse(name, args=args), reverse(f"{name}-hours", args=args), reverse(f"{name}-calls", args=args)
    )


def _found(request: HttpRequest, sought: str, found: list[Trace]) -> dict[str, object]:
    name = "dashboard:staff-line" if request.path.startswith("/staff/") else "dashboard:invoice-line"
    rows = []
    for one in found:
        document = one.document
        linkable = document is not None and (name == "dashboard:invoice-line" or document.cut_at is not None)
        url = (
            _addresses(name, document.reference, one.line.position)
            if linkable and document and one.line
            else None
        )
        amounts = (
            [(tier, format_price(tier.share.amount, document.currency)) for tier in one.tiers]
            if document
            else []
        )
        rows.append(
            {
                "trace": one,
                "counted": quantity_words(one.event.quantity, one.meter.unit if one.meter else ""),
                "line_url": url.line if url else "",
                "hour_url": url.of_calls(one.hour, None) if url else "",
                "tiers": [
                    (tier, amount, url.of_hours(tier.number) if url else "") for tier, amount in amounts
                ],
                "cost": format_price(one.cost, document.currency) if document else "",
                "serving": _serving(one) if request.path.startswith("/staff/") else None,
            }
        )
    return {"sought": sought, "found": rows}


def _serving(one: Trace) -> dict[str, str] | None:
    """What a call cost its owner to serve, and what is left of what it brought."""
    currency = one.document.currency if one.document else one.period.version.currency if one.period else ""
    cost = cost_of_call(one.event, currency=currency)
    if cost is None:
        return None
    brought = one.cost if one.document else ZERO
    margin = "" if one.note == LATE else call_price(brought - cost.total, currency)
    return {"cost": call_price(cost.total, currency), "margin": margin}


def _csv(name: str, rows: Iterable[tuple[str, ...]]) -> HttpResponse:
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    safe = "".join(letter if letter.isalnum() else "-" for letter in name)
    response["Content-Disposition"] = f'attachment; filename="{safe}.csv"'
    csv.writer(response).writerows(harmless_rows(rows))
    return response
