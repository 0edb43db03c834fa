"""Invoices: made from documents with something to pay, reduced by prepaid credit, paid or closed once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from accounts.models import Organization, User
from accounts.services import record_audit
from billing.accounts import lock_accounts
from billing.credits import apply_credit, give_back_credit, grant_credit, with_credit
from billing.documents import Issued, copy_rows
from billing.models import CollectorName, Invoice, InvoiceState, Statement
from billing.models.invoice import invoice_public_id
from billing.stripe.items import make_items
from core.errors import PortalError
from core.money import format_money

_INVOICE = (
    "public_id, organization_id, statement_id, amount_minor, prepaid_minor, credited_minor, currency, state, collector,"
    " created_at, due_at, reference"
)


class InvoiceClosed(PortalError):
    code, status, title = "invoice_closed", 409, "This invoice is paid or closed already"


def make_invoices(
    issued: Sequence[Issued],
    *,
    organizations: Mapping[int, Organization],
    at: datetime,
    settled_minor: int = 0,
) -> None:
    """An invoice for each document with something to pay; less than nothing becomes credit (but for `settled_minor` of
    it, that came off an invoice already); nothing stays without.

    In the transaction that issued them, whose locks of the accounts it needs.
    """
    by_card = make_items(issued, at=at)
    issued = [one for one in issued if one.statement_id not in by_card]
    payable = [one for one in issued if one.total_minor > 0]
    copy_rows("billing_invoice", _INVOICE, _rows(payable, at))
    for one in issued:
        if one.total_minor + settled_minor < 0:
            _grant_negative(one, -one.total_minor - settled_minor, organizations, at)
    wealthy = with_credit(one.draft.organization_id for one in payable) if payable else set()
    paid = [one.statement_id for one in payable if one.draft.organization_id in wealthy]
    for invoice in Invoice.objects.filter(statement__in=paid).select_related("organization").order_by("pk"):
        _pay_by_credit(invoice, at)


def _rows(payable: Iterable[Issued], at: datetime) -> Iterator[tuple[Any, ...]]:
    due_at = at + timedelta(days=settings.INVOICE_DUE_DAYS)
    for one in payable:
        yield (
            invoice_public_id(), one.draft.organization_id, one.statement_id, one.total_minor, 0, 0,
            one.draft.currency, InvoiceState.OPEN.value, CollectorName.MANUAL.value, at, due_at, "",
        )  # fmt: skip


def _grant_negative(
    issued: Issued, amount_minor: int, organizations: Mapping[int, Organization], at: datetime
) -> None:
    grant_credit(
        organization=organizations[issued.draft.organization_id],
        amount_minor=amount_minor,
        currency=issued.draft.currency,
        reason=f"In your favour on {issued.number}",
        by=None,
        at=at,
        statement=Statement.objects.get(pk=issued.statement_id),
    )


def _pay_by_credit(invoice: Invoice, at: datetime) -> None:
    apply_credit(invoice=invoice, by=None, at=at)
    if invoice.due_minor == 0:
        _set_paid(invoice, by=None, at=at, reference="Prepaid credit")


@transaction.atomic
def settle_invoice(
    *, invoice: Invoice, by: User | None, at: datetime, reference: str = "", paid_minor: int | None = None
) -> Invoice:
    """The whole rest was paid. The audit says how much that was: `paid_minor` of an act that took it off already, otherwise
    what is due. Raises InvoiceClosed."""
    invoice = lock_invoice(invoice)
    paid = invoice.due_minor if paid_minor is None else paid_minor
    _set_paid(invoice, by=by, at=at, reference=reference)
    details: dict[str, object] = {"amount": format_money(paid, invoice.currency), "reference": reference}
    record_audit(
        organization=invoice.organization, by=by, action="invoice.paid", target=str(invoice.statement), at=at,
        details=details,
    )  # fmt: skip
    return invoice


@transaction.atomic
def close_invoice(
    *, invoice: Invoice, state: InvoiceState, by: User | None, at: datetime, reason: str = ""
) -> Invoice:
    """Void it with its document, or give it up as uncollectible. Prepaid credit goes back. Raises InvoiceClosed."""
    invoice = lock_invoice(invoice)
    give_back_credit(invoice=invoice, by=by, at=at)
    invoice.state, invoice.closed_at, invoice.closed_by = state, at, by
    invoice.prepaid_minor = 0
    invoice.save(update_fields=["state", "closed_at", "closed_by", "prepaid_minor"])
    record_audit(
        organization=invoice.organization, by=by, action=f"invoice.{state.value}", target=str(invoice.statement),
        at=at, details={"reason": reason},
    )  # fmt: skip
    return invoice


@transaction.atomic
def take_off(*, invoice: Invoice, amount_minor: int, by: User | None, at: datetime) -> Invoice:
    """A credit note reduces what is due; when nothing is left, the invoice is paid. Raises InvoiceClosed, or ValueError
    for more than is due."""
    invoice = lock_invoice(invoice)
    if not 0 < amount_minor <= invoice.due_minor:
        raise ValueError("more than is due")
    invoice.credited_minor += amount_minor
    invoice.save(update_fields=["credited_minor"])
    if invoice.due_minor == 0:
        _set_paid(invoice, by=by, at=at, reference="Credit note")
    return invoice


def lock_invoice(invoice: Invoice) -> Invoice:
    """The invoice as it is now, locked behind its account. Raises InvoiceClosed unless it is unpaid."""
    lock_accounts([invoice.organization])
    rows = Invoice.objects.for_organization(invoice.organization).select_related("organization", "statement")
    locked = rows.select_for_update(of=("self",)).get(pk=invoice.pk)
    if not locked.is_unpaid:
        raise InvoiceClosed
    return locked


def _set_paid(invoice: Invoice, *, by: User | None, at: datetime, reference: str) -> None:
    invoice.state, invoice.paid_at = InvoiceState.PAID, at
    invoice.reference, invoice.closed_by = reference, by
    invoice.save(update_fields=["state", "paid_at", "reference", "closed_by"])
