"""What pages show of documents and credit: rows for lists, facts for one document."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from accounts.models import Organization
from billing.credits import Lot, credit_balances, credit_lots
from billing.drafts import draft_lines
from billing.models import CreditEntry, CreditTransaction, Invoice, InvoiceState, Statement, StripeCredit
from billing.wording import DisplayLine, display_lines, period_words, statement_lines, title
from core.money import format_money
from metering.costs import period_cost
from plans.queries import find_period

PAGE = 25
_PILLS = {
    InvoiceState.PAID: "good",
    InvoiceState.OPEN: "warn",
    InvoiceState.PAST_DUE: "bad",
    InvoiceState.UNCOLLECTIBLE: "bad",
    InvoiceState.VOID: "plain",
}


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """One document in a list: what it is, what it comes to, and where its payment stands."""

    statement: Statement
    invoice: Invoice | None

    @property
    def title(self) -> str:
        return title(self.statement)

    @property
    def period(self) -> str:
        return period_words(self.statement.starts_at, self.statement.ends_at)

    @property
    def total(self) -> str:
        return format_money(self.statement.total_minor, self.statement.currency)

    @property
    def due(self) -> str:
        return format_money(self.invoice.due_minor, self.statement.currency) if self.invoice else ""

    @property
    def state(self) -> str:
        """In words: the invoice's, or why there is none."""
        if self.statement.is_void:
            return "void"
        if self.invoice is not None:
            return self.invoice.get_state_display().lower()
        if self.statement.total_minor > 0:
            return "by card"
        return "credited" if self.statement.total_minor < 0 else "nothing to pay"

    @property
    def pill(self) -> str:
        if self.statement.is_void or self.invoice is None:
            return "plain"
        return _PILLS[InvoiceState(self.invoice.state)]

    @property
    def is_unpaid(self) -> bool:
        return self.invoice is not None and self.invoice.is_unpaid


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """A page of a list, newest first; `older` is the cursor of the next one."""

    rows: list[DocumentRow]
    older: str
    is_first: bool


@dataclass(frozen=True, slots=True)
class Upcoming:
    """The running period as its statement would be now."""

    period: str
    starts_at: datetime
    ends_at: datetime
    total: str
    lines: list[DisplayLine]


@dataclass(frozen=True, slots=True)
class CreditLine:
    """A movement of the customer's credit."""

    transaction: CreditTransaction
    amount: str
    reason: str


@dataclass(frozen=True, slots=True)
class Document:
    """One document with its lines, payment and relatives."""

    row: DocumentRow
    lines: list[DisplayLine]
    prepaid: str
    credited: str
    relatives: list[tuple[str, Statement]]


def document_page(organization: Organization, *, before: str = "") -> DocumentPage:
    """The organization's documents; an unknown cursor is the first page."""
    rows = Statement.objects.for_organization(organization).select_related("invoice")
    last = rows.filter(public_id=before).first() if before else None
    if last is not None:
        at = last.finalised_at
        rows = rows.filter(Q(finalised_at__lt=at) | Q(finalised_at=at, pk__lt=last.pk))
    found = list(rows[: PAGE + 1])
    older = found[PAGE - 1].public_id if len(found) > PAGE else ""
    return DocumentPage([document_row(one) for one in found[:PAGE]], older, last is None)


def document_row(statement: Statement) -> DocumentRow:
    return DocumentRow(statement, getattr(statement, "invoice", None))


def read_document(statement: Statement) -> Document:
    """A document for its page."""
    row = document_row(statement)
    invoice, currency = row.invoice, statement.currency
    relatives = [("Belongs to", statement.corrects)] if statement.corrects else []
    relatives += [("Replaces", statement.replaces)] if statement.replaces else []
    relatives += [("Replaced by", one) for one in statement.replacements.all()]
    relatives += [(one.get_kind_display(), one) for one in statement.corrections.all()]
    return Document(
        row,
        statement_lines(statement),
        format_money(-invoice.prepaid_minor, currency) if invoice and invoice.prepaid_minor else "",
        format_money(-invoice.credited_minor, currency) if invoice and invoice.credited_minor else "",
        relatives,
    )


def read_upcoming(organization: Organization, *, at: datetime) -> Upcoming | None:
    """The running period so far; None where no period runs."""
    period = find_period(organization, at=at)
    if period is None or period.ends_at <= at:
        return None
    rated = period_cost(organization, period=period)
    return Upcoming(
        period_words(period.starts_at, period.ends_at),
        period.starts_at,
        period.ends_at,
        format_money(rated.total_minor, rated.currency),
        display_lines(draft_lines(rated), currency=rated.currency),
    )


def balances(organization: Organization, *, at: datetime) -> list[str]:
    """Usable credit in words, one for each currency."""
    return [format_money(minor, currency) for currency, minor in credit_balances(organization, at=at).items()]


def lots(organization: Organization, *, at: datetime) -> list[Lot]:
    return credit_lots(organization, at=at)


def credit_history(organization: Organization, *, limit: int = 50) -> list[CreditLine]:
    """The newest movements of the customer's credit."""
    entries = (
        CreditEntry.objects.for_organization(organization)
        .filter(account="customer")
        .select_related("transaction__invoice__statement", "transaction__stripe_credit__invoice", "grant")
        .order_by("-transaction__at", "-pk")[:limit]
    )
    return [
        CreditLine(entry.transaction, format_money(entry.amount_minor, entry.currency), _reason(entry))
        for entry in entries
    ]


def _reason(entry: CreditEntry) -> str:
    invoice = entry.transaction.invoice
    if invoice is not None:
        return invoice.statement.number
    by_card: StripeCredit | None = getattr(entry.transaction, "stripe_credit", None)
    return str(by_card.invoice) if by_card is not None else entry.grant.reason
