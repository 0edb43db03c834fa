"""Staff look after documents and money: what is unpaid, a customer's documents and credit, acts on one document.

Money acts ask for the number typed, for the password given just now, and for the permission to change invoices.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from accounts.models import Organization, User
from accounts.permissions import can_handle_money, check_can_handle_money
from billing.accounts import get_account
from billing.collection import give_up, mark_paid
from billing.credits import grant_credit
from billing.models import CreditSource, Invoice, InvoiceState, Statement
from billing.statements import creditable_minor, issue_credit_note, regenerate_statement, void_statement
from billing.stripe.client import StripeAway, StripeRefused, is_configured
from billing.stripe.demo import end_month, let_grace_end, may_end_grace, may_end_month
from core.clock import now
from core.errors import PortalError
from core.money import format_money
from dashboard import invoice_page
from dashboard.access import staff_page
from dashboard.forms.billing import CreditNoteForm, GrantForm, PaidForm, ReasonForm
from dashboard.payment_card import card_invoices, payment_timeline
from dashboard.reauthentication import recently_proven
from dashboard.views.invoices import csv_response, pdf_response
from plans.queries import find_subscription

UNPAID_SHOWN = 100
Act = Callable[[Statement, dict[str, Any], User, datetime], str]


@require_safe
@staff_page
def unpaid_list(request: HttpRequest) -> HttpResponse:
    """What is to be paid, the oldest due first; and a way to any customer."""
    unpaid = Invoice.objects.filter(state__in=(InvoiceState.OPEN, InvoiceState.PAST_DUE))
    rows = unpaid.select_related("organization", "statement").order_by("due_at", "pk")[:UNPAID_SHOWN]
    sought = request.GET.get("customer", "").strip()
    found = Organization.objects.filter(
        Q(name__icontains=sought) | Q(public_id=sought) | Q(billing_account__number_prefix__iexact=sought)
    )
    context = {
        "nav": "staff-billing",
        "staff_page": True,
        "invoices": rows,
        "sought": sought,
        "found": found.order_by("name", "pk")[:20] if sought else (),
        "cards_work": is_configured(),
    }
    return render(request, "dashboard/staff_unpaid.html", context)


@require_safe
@staff_page
def customer(request: HttpRequest, public_id: str) -> HttpResponse:
    organization = get_object_or_404(Organization, public_id=public_id)
    return _customer(request, organization, _grant_form(organization))


@require_http_methods(["GET", "POST"])
@staff_page
def month_end(request: HttpRequest, public_id: str) -> HttpResponse:
    """Only beside the stand-in for Stripe, where nobody's real month ends."""
    organization = get_object_or_404(Organization, public_id=public_id)
    if request.method != "POST" or not may_end_month(organization):
        raise Http404
    try:
        end_month(organization=organization, by=_may(request), at=now())
    except (StripeAway, StripeRefused) as error:
        messages.error(request, f"{error.title}. {error.detail}")
    else:
        messages.success(
            request, "The month has ended. Its invoice is charged in about ten seconds: load this page again."
        )
    return redirect("dashboard:staff-customer-billing", public_id)


@require_http_methods(["GET", "POST"])
@staff_page
def grace_end(request: HttpRequest, public_id: str) -> HttpResponse:
    """As `month_end`: only beside the stand-in."""
    organization = get_object_or_404(Organization, public_id=public_id)
    if request.method != "POST" or not may_end_grace(organization):
        raise Http404
    let_grace_end(organization=organization, by=_may(request), at=now())
    messages.success(
        request, "The days of grace are over: calls are refused with 402 until the invoice is paid."
    )
    return redirect("dashboard:staff-customer-billing", public_id)


@require_http_methods(["GET", "POST"])
@staff_page
@recently_proven
def credit_grant(request: HttpRequest, public_id: str) -> HttpResponse:
    organization = get_object_or_404(Organization, public_id=public_id)
    if request.method != "POST":
        return redirect("dashboard:staff-customer-billing", public_id)
    by, form = _may(request), _grant_form(organization, request.POST)
    if not form.is_valid():
        return _customer(request, organization, form, status=422)
    values = form.cleaned_data
    try:
        grant = grant_credit(
            organization=organization, amount_minor=values["amount"], currency=form.currency,
            reason=values["reason"], source=CreditSource(values["source"]), expires_at=values["expires_on"], by=by,
            at=now(), once=values["once"],
        )  # fmt: skip
    except PortalError as refused:
        form.add_error(None, refused.detail)
        return _customer(request, organization, form, status=422)
    messages.success(
        request, f"{format_money(grant.amount_minor, grant.currency)} of credit for {organization}."
    )
    return redirect("dashboard:staff-customer-billing", public_id)


@require_safe
@staff_page
def document(request: HttpRequest, public_id: str) -> HttpResponse:
    return _document(request, _statement(public_id))


@require_safe
@staff_page
def document_pdf(request: HttpRequest, public_id: str) -> HttpResponse:
    return pdf_response(_statement(public_id))


@require_safe
@staff_page
def document_csv(request: HttpRequest, public_id: str) -> HttpResponse:
    return csv_response(_statement(public_id))


@require_http_methods(["GET", "POST"])
@staff_page
@recently_proven
def document_act(request: HttpRequest, public_id: str, act: str) -> HttpResponse:
    """Carry out one of `_ACTS`; a GET, as after asking for the password, shows the document."""
    statement = _statement(public_id)
    if act not in _ACTS:
        raise Http404
    if request.method != "POST":
        return redirect("dashboard:staff-document", public_id)
    by, form = _may(request), _forms(statement, act, request.POST)[act]
    if form.is_valid():
        try:
            messages.success(request, _ACTS[act](statement, form.cleaned_data, by, now()))
            return redirect("dashboard:staff-document", public_id)
        except PortalError as refused:
            form.add_error(None, refused.detail)
    return _document(request, statement, act, form)


def _paid(statement: Statement, values: dict[str, Any], by: User, at: datetime) -> str:
    mark_paid(invoice=_invoice(statement), by=by, at=at, reference=values["reference"])
    return f"{statement.number} is paid."


def _give_up(statement: Statement, values: dict[str, Any], by: User, at: datetime) -> str:
    give_up(invoice=_invoice(statement), reason=values["reason"], by=by, at=at)
    return f"Nobody asks for {statement.number} any more."


def _void(statement: Statement, values: dict[str, Any], by: User, at: datetime) -> str:
    void_statement(statement=statement, reason=values["reason"], by=by, at=at)
    return f"{statement.number} is void."


def _regenerate(statement: Statement, values: dict[str, Any], by: User, at: datetime) -> str:
    made = regenerate_statement(statement=statement, reason=values["reason"], by=by, at=at)
    return f"{statement.number} is void; {made.number} takes its place."


def _credit(statement: Statement, values: dict[str, Any], by: User, at: datetime) -> str:
    note = issue_credit_note(
        statement=statement,
        amount_minor=values["amount"],
        reason=values["reason"],
        by=by,
        at=at,
        once=values["once"],
    )
    return f"Credit note {note.number} over {format_money(-note.total_minor, note.currency)}."


_ACTS: dict[str, Act] = {
    "paid": _paid,
    "credit": _credit,
    "regenerate": _regenerate,
    "void": _void,
    "give-up": _give_up,
}


def _invoice(statement: Statement) -> Invoice:
    found = Invoice.objects.filter(statement=statement).select_related("organization").first()
    if found is None:
        raise Http404
    return found


def _forms(statement: Statement, act: str = "", data: Any = None) -> dict[str, forms.Form]:
    """The forms of what can be done to a document now; `act`'s with what was sent."""
    row = invoice_page.document_row(statement)
    offered: dict[str, tuple[Any, dict[str, Any]]] = {}
    if row.is_unpaid or act in ("paid", "give-up"):
        offered |= {"paid": (PaidForm, {}), "give-up": (ReasonForm, {})}
    if (not statement.is_void and statement.kind != "credit_note") or act:
        offered |= {"void": (ReasonForm, {}), "regenerate": (ReasonForm, {})}
        if creditable_minor(statement) or act == "credit":
            offered["credit"] = (CreditNoteForm, {"currency": statement.currency})
    return {
        name: kind(data if name == act else None, confirm=statement.number, auto_id=f"{name}-%s", **more)
        for name, (kind, more) in offered.items()
    }


def _grant_form(organization: Organization, data: Any = None) -> GrantForm:
    subscription = find_subscription(organization, at=now())
    currency = subscription.version.currency if subscription else get_account(organization).currency
    return GrantForm(data, currency=currency, confirm=organization.name)


def _may(request: HttpRequest) -> User:
    """The staff member who acts. Raises Forbidden without the permission, before a form is looked at."""
    user = cast(User, request.user)
    check_can_handle_money(user)
    return user


def _statement(public_id: str) -> Statement:
    rows = Statement.objects.select_related("organization", "invoice", "corrects", "replaces")
    return get_object_or_404(rows, public_id=public_id)


def _document(
    request: HttpRequest, statement: Statement, act: str = "", form: forms.Form | None = None
) -> HttpResponse:
    shown = _forms(statement)
    if form is not None:
        shown[act] = form
    context = {
        "nav": "staff-billing",
        "staff_page": True,
        "document": invoice_page.read_document(statement),
        "acts": [(name, _TITLES[name], _HINTS[name], shown[name]) for name in _ACTS if name in shown],
        "open_act": act,
        "may_act": can_handle_money(cast(User, request.user)),
    }
    return render(request, "dashboard/staff_document.html", context, status=422 if form else 200)


_TITLES = {
    "paid": "Mark as paid",
    "credit": "Credit note",
    "regenerate": "Make it again",
    "void": "Take it back",
    "give-up": "Give it up",
}
_HINTS = {
    "paid": "The whole rest has arrived. When nothing else is overdue, calls pass again.",
    "credit": "A new document gives part of it back: off what is due, the rest as credit.",
    "regenerate": "It becomes void, and a new one is made from what the ledger holds now.",
    "void": "It becomes void with its invoice; its number stays. Nothing takes its place.",
    "give-up": "Nobody asks for the money any more. The subscription stays as it is.",
}


def _customer(
    request: HttpRequest, organization: Organization, form: GrantForm, *, status: int = 200
) -> HttpResponse:
    at = now()
    context = {
        "nav": "staff-billing",
        "staff_page": True,
        "customer": organization,
        "account": get_account(organization),
        "subscription": find_subscription(organization, at=at),
        "page": invoice_page.document_page(organization, before=request.GET.get("before", "")),
        "upcoming": invoice_page.read_upcoming(organization, at=at),
        "balances": invoice_page.balances(organization, at=at),
        "history": invoice_page.credit_history(organization, limit=15),
        "card_invoices": card_invoices(organization),
        "timeline": payment_timeline(organization),
        "findings": organization.stripe_findings.filter(closed_at=None)[:20],
        "cards_work": is_configured(),
        "may_end_month": may_end_month(organization),
        "may_end_grace": may_end_grace(organization),
        "form": form,
        "may_act": can_handle_money(cast(User, request.user)),
    }
    return render(request, "dashboard/staff_customer_billing.html", context, status=status)
