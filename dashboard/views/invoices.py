"""A customer's documents: list, one with its lines, PDF, CSV, the running period, credit, and whom they are made out to."""

import csv

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import Role
from billing.accounts import change_account, get_account
from billing.collection import pay_with_credit
from billing.models import Invoice, Statement
from billing.pdf import statement_pdf
from billing.wording import csv_rows
from core.clock import now
from core.errors import PortalError
from core.money import format_money
from core.spreadsheets import harmless_rows
from dashboard import invoice_page
from dashboard.access import MemberRequest, member_page
from dashboard.forms.billing import AccountForm
from dashboard.payment_card import card_invoices, payment_timeline

PAYERS = (Role.OWNER, Role.ADMIN, Role.BILLING)


@require_safe
@member_page(*PAYERS)
def invoice_list(request: MemberRequest) -> HttpResponse:
    at, owner = now(), request.organization
    context = {
        "nav": "invoices",
        "page": invoice_page.document_page(owner, before=request.GET.get("before", "")),
        "upcoming": invoice_page.read_upcoming(owner, at=at),
        "balances": invoice_page.balances(owner, at=at),
        "account": get_account(owner),
        "card_invoices": card_invoices(owner),
        "timeline": payment_timeline(owner),
    }
    return render(request, "dashboard/invoice_list.html", context)


@require_safe
@member_page(*PAYERS)
def invoice(request: MemberRequest, public_id: str) -> HttpResponse:
    document = invoice_page.read_document(_statement(request, public_id))
    has_credit = document.row.is_unpaid and bool(invoice_page.balances(request.organization, at=now()))
    context = {
        "nav": "invoices",
        "document": document,
        "has_credit": has_credit,
        "pay_to": settings.INVOICE_PAY_TO,
    }
    return render(request, "dashboard/invoice.html", context)


@require_safe
@member_page(*PAYERS)
def invoice_upcoming(request: MemberRequest) -> HttpResponse:
    upcoming = invoice_page.read_upcoming(request.organization, at=now())
    if upcoming is None:
        return redirect("dashboard:invoice-list")
    return render(request, "dashboard/invoice_upcoming.html", {"nav": "invoices", "upcoming": upcoming})


@require_safe
@member_page(*PAYERS)
def invoice_pdf(request: MemberRequest, public_id: str) -> HttpResponse:
    return pdf_response(_statement(request, public_id))


@require_safe
@member_page(*PAYERS)
def invoice_csv(request: MemberRequest, public_id: str) -> HttpResponse:
    return csv_response(_statement(request, public_id))


@require_safe
@member_page(*PAYERS)
def credit(request: MemberRequest) -> HttpResponse:
    at, owner = now(), request.organization
    context = {
        "nav": "invoices",
        "balances": invoice_page.balances(owner, at=at),
        "lots": invoice_page.lots(owner, at=at),
        "history": invoice_page.credit_history(owner),
    }
    return render(request, "dashboard/credit.html", context)


@require_POST
@member_page(*PAYERS)
def invoice_use_credit(request: MemberRequest, public_id: str) -> HttpResponse:
    found = Invoice.objects.for_organization(request.organization).filter(statement__public_id=public_id)
    wanted = found.select_related("organization").first()
    if wanted is None:
        raise Http404
    try:
        applied = pay_with_credit(invoice=wanted, by=request.user, at=now())
    except PortalError as refused:
        messages.error(request, refused.detail)
    else:
        messages.success(request, f"{format_money(applied, wanted.currency)} of your credit was used.")
    return redirect("dashboard:invoice", public_id)


@require_http_methods(["GET", "POST"])
@member_page(*PAYERS)
def billing_account(request: MemberRequest) -> HttpResponse:
    account = get_account(request.organization)
    facts = {name: getattr(account, name) for name in ("legal_name", "address", "tax_id", "email")}
    form = AccountForm(request.POST or None, initial=facts)
    if request.method == "POST" and form.is_valid():
        change_account(organization=request.organization, by=request.user, at=now(), **form.cleaned_data)
        messages.success(request, "Saved. Documents from now on are made out like this.")
        return redirect("dashboard:invoice-list")
    status = 422 if request.method == "POST" else 200
    return render(request, "dashboard/billing_account.html", {"nav": "invoices", "form": form}, status=status)


def pdf_response(statement: Statement) -> HttpResponse:
    """A document as a file that the browser may show."""
    response = HttpResponse(statement_pdf(statement), content_type="application/pdf")
    response["Content-Disposition"] = f'inline; filename="{statement.number}.pdf"'
    return response


def csv_response(statement: Statement) -> HttpResponse:
    """A document's lines and tiers for spreadsheets."""
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{statement.number}.csv"'
    csv.writer(response).writerows(harmless_rows(csv_rows(statement)))
    return response


def _statement(request: MemberRequest, public_id: str) -> Statement:
    rows = Statement.objects.for_organization(request.organization).select_related(
        "organization", "invoice", "corrects", "replaces"
    )
    return rows.get_or_404(public_id=public_id)
