"""Statements: finalised when a period's grace is over, void and made again, corrected by new linked documents.

A draft is not stored: it is `metering.costs.period_cost`. A final statement holds fee, usage and credit of its period as
of its cut, and what came late for earlier periods; it never changes, and can be recomputed from the ledger for ever.
"""

import gc
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Sum

from accounts.models import Organization, User
from accounts.permissions import check_can_handle_money
from accounts.services import record_audit
from billing.accounts import lock_accounts
from billing.batches import draft_of, finalise_periods
from billing.collection import COLLECTORS, after_payment
from billing.credits import CreditRefused, take_back_grant
from billing.documents import issue_documents
from billing.drafts import Draft, DraftLine
from billing.invoices import close_invoice, make_invoices, take_off
from billing.late import LatePeriod, adjustment_lines, late_periods
from billing.models import (
    CreditGrant,
    Invoice,
    InvoiceState,
    LineKind,
    Statement,
    StatementKind,
    StatementLine,
    StatementState,
)
from billing.once import check_once
from billing.recompute import lines_at
from billing.stripe.items import is_by_card
from core.clock import EPOCH
from core.errors import PortalError
from core.money import format_money
from core.one_by_one import one_by_one
from metering.ledger import take_ledger_cut
from plans.models import Period

log = structlog.get_logger(__name__)
BATCH = 2_000
BATCHES_AT_ONCE = 2

# Ended periods without a statement, void ones included: a void one is made again by hand only. By shard, so that a batch
# holds few of the drain's locks; an organization's periods in their order.
_DUE = """
SELECT p.id FROM plans_period p JOIN accounts_organization o ON o.id = p.organization_id
WHERE p.ends_at > %s AND p.ends_at <= %s AND NOT EXISTS (
    SELECT FROM billing_statement s WHERE s.period_id = p.id AND s.kind = 'period'
)
ORDER BY o.shard, p.organization_id, p.starts_at
"""


class PeriodRuns(PortalError):
    code, status, title = "period_runs", 409, "This period has not ended, or its grace is not over"


class StatementVoid(PortalError):
    code, status, title = "statement_void", 409, "This statement is void already"


class StatementKept(PortalError):
    code, status, title = "statement_kept", 409, "This statement cannot be taken back"


def grace_over(at: datetime) -> datetime:
    """Periods that ended up to this moment are finalised now: late usage had its grace."""
    return at - timedelta(minutes=settings.STATEMENT_GRACE_MINUTES)


def finalise_due(*, at: datetime, since: datetime = EPOCH) -> int:
    """Finalise every period that ended after `since` and whose grace is over; how many statements were made. Safe to run at any time, also twice
    at once. A batch that fails is halved until the period at fault stands alone; it is logged, the others go on."""
    with connection.cursor() as cursor:
        cursor.execute(_DUE, [since, grace_over(at)])
        due = [row[0] for row in cursor.fetchall()]
    batches = [due[first : first + BATCH] for first in range(0, len(due), BATCH)]
    if len(batches) < 2:
        return sum(_finalise_or_halve(batch, at) for batch in batches)
    with _collector_paused(), ThreadPoolExecutor(BATCHES_AT_ONCE) as pool:
        # While PostgreSQL stores one batch, the next is rated.
        return sum(pool.map(lambda batch: _finalise_in_thread(batch, at), batches))


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Batches make rows by the hundred thousand and no cycles; looking for cycles in them took a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _finalise_in_thread(period_ids: Sequence[int], at: datetime) -> int:
    try:
        return _finalise_or_halve(period_ids, at)
    finally:
        connection.close()


def _finalise_or_halve(period_ids: Sequence[int], at: datetime) -> int:
    try:
        return len(finalise_periods(period_ids, at=at))
    except Exception as error:
        if len(period_ids) == 1:
            log.exception("statement_failed", period=period_ids[0], error=type(error).__name__)
            return 0
    middle = len(period_ids) // 2
    return _finalise_or_halve(period_ids[:middle], at) + _finalise_or_halve(period_ids[middle:], at)


def finalise_statement(*, period: Period, at: datetime) -> Statement:
    """The statement of one ended period, made if it has none. Raises PeriodRuns while it runs or its grace does."""
    if period.ends_at > grace_over(at):
        raise PeriodRuns
    finalise_periods([period.pk], at=at)
    return Statement.objects.for_organization(period.organization).get(
        period=period, kind=StatementKind.PERIOD, state=StatementState.FINALISED
    )


@transaction.atomic
def void_statement(*, statement: Statement, reason: str, by: User | None, at: datetime) -> Statement:
    """Take a document back, with its unpaid invoice or its unused credit. Its lines and number stay.

    Raises Forbidden; StatementVoid; StatementKept when it was paid, when its credit was used, when other documents correct
    it (a credit note is the way then), or when a later one billed what came after it: without it that would lack its part.
    """
    check_can_handle_money(by)
    lock_accounts([statement.organization])
    if _is_adjusted_later(statement):
        raise StatementKept("A later document bills what came after it: make it again instead.")
    return _void(statement, reason, by, at)


def _void(statement: Statement, reason: str, by: User | None, at: datetime) -> Statement:
    statement = _reread(statement)
    if statement.is_void:
        raise StatementVoid
    if statement.corrections.filter(state=StatementState.FINALISED).exists():
        raise StatementKept("Other documents correct it.")
    _undo_payment(statement, reason, by, at)
    statement.state, statement.voided_at, statement.void_reason = StatementState.VOID, at, reason
    statement.save(update_fields=["state", "voided_at", "void_reason"])
    record_audit(
        organization=statement.organization, by=by, action="statement.void", target=statement.number, at=at,
        details={"reason": reason},
    )  # fmt: skip
    return statement


def _undo_payment(statement: Statement, reason: str, by: User | None, at: datetime) -> None:
    if statement.kind == StatementKind.CREDIT_NOTE:
        raise StatementKept("A credit note stands.")
    invoice = Invoice.objects.filter(statement=statement).first()
    if invoice is None and is_by_card(statement):
        raise StatementKept("It is charged by card: make a credit note, or correct the usage.")
    if invoice is not None and invoice.state == InvoiceState.PAID:
        raise StatementKept("It was paid: make a credit note.")
    if invoice is not None and invoice.is_unpaid:
        was_sent = invoice.sent_at is not None
        invoice = close_invoice(invoice=invoice, state=InvoiceState.VOID, by=by, at=at, reason=reason)
        if was_sent:
            COLLECTORS[invoice.collector].cancel(invoice)
        after_payment(statement.organization, by=by, at=at)
    grant = CreditGrant.objects.filter(statement=statement).first()
    if grant is not None:
        take_back_grant(grant=grant, by=by, at=at)


@transaction.atomic
def regenerate_statement(*, statement: Statement, reason: str, by: User | None, at: datetime) -> Statement:
    """Void a document and make it again, linked: with what the ledger holds now, or as of its own cut where a later
    document has already billed what came after. Raises what `void_statement` raises, but for that document."""
    check_can_handle_money(by)
    lock_accounts([statement.organization])
    void = _void(statement, reason, by, at)
    owner = void.organization
    cut_at = void.cut_at if _is_adjusted_later(void) else take_ledger_cut([owner.shard])
    draft = draft_of(void.period, lines_at(void, cut_at=cut_at), cut_at, StatementKind(void.kind))
    draft.replaces_id, draft.corrects_id, draft.note = void.pk, void.corrects_id, f"Replaces {void.number}."
    return _issue(draft, owner, at)


def _is_adjusted_later(statement: Statement) -> bool:
    """Whether a later document billed late usage of this one's periods."""
    periods = [
        statement.period_id,
        *statement.lines.exclude(of_period=None).values_list("of_period", flat=True),
    ]
    return StatementLine.objects.filter(
        of_period__in=periods,
        statement__organization=statement.organization,
        statement__state=StatementState.FINALISED,
        statement__cut_at__gt=statement.cut_at,
    ).exists()


@transaction.atomic
def issue_credit_note(
    *, statement: Statement, amount_minor: int, reason: str, by: User | None, at: datetime, once: str = ""
) -> Statement:
    """Give back part of a document's total. What is still due of it is reduced; the rest becomes credit.

    Raises Forbidden, StatementVoid, StatementKept when it was given up unpaid, CreditRefused for more than remains, or
    SentBefore when the form with the number `once` has done it.
    """
    check_can_handle_money(by)
    lock_accounts([statement.organization])
    kept = check_once(statement.organization, "statement.credited", once)
    statement = _reread(statement)
    if statement.is_void:
        raise StatementVoid
    left = creditable_minor(statement)
    if not 0 < amount_minor <= left:
        raise CreditRefused(
            f"Between nothing and {format_money(left, statement.currency)} can be credited.", field="amount"
        )
    line = DraftLine(LineKind.CREDIT.value, reason, "", "", "", Decimal(1), -amount_minor)
    draft = draft_of(statement.period, [line], at, StatementKind.CREDIT_NOTE)
    draft.cut_at, draft.corrects_id, draft.note = (
        statement.cut_at,
        statement.pk,
        f"Credit for {statement.number}.",
    )
    invoice = Invoice.objects.filter(statement=statement).first()
    if invoice is not None and invoice.state == InvoiceState.UNCOLLECTIBLE:
        raise StatementKept("It was given up unpaid: there is nothing to give back.")
    off = min(amount_minor, invoice.due_minor) if invoice else 0
    if invoice is not None and off:
        take_off(invoice=invoice, amount_minor=off, by=by, at=at)
        after_payment(statement.organization, by=by, at=at)
    note = _issue(draft, statement.organization, at, settled_minor=off)
    record_audit(
        organization=statement.organization, by=by, action="statement.credited", target=note.number, at=at,
        details={"of": statement.number, "amount": format_money(amount_minor, note.currency), "reason": reason} | kept,
    )  # fmt: skip
    return note


def creditable_minor(statement: Statement) -> int:
    """How much of a document's total no credit note has given back yet, minor units."""
    notes = statement.corrections.filter(kind=StatementKind.CREDIT_NOTE, state=StatementState.FINALISED)
    credited = notes.aggregate(total=Sum("total_minor"))["total"] or 0
    return max(statement.total_minor + int(credited), 0)


def adjust_ended(*, at: datetime) -> int:
    """Adjustment documents for usage that came late and is on no coming statement: of customers (and currencies) that get
    none any more, and corrections of periods older than statements look back; how many. Idempotent: what a document has
    billed is not late any more."""
    coming = set(
        Period.objects.filter(ends_at__gt=grace_over(at)).values_list("organization_id", "version__currency")
    )
    joins_next = {
        one for one in late_periods(at=at, all_ages=False) if (one.organization_id, one.currency) in coming
    }
    ended = [one for one in late_periods(at=at) if one not in joins_next]
    return one_by_one(ended, lambda late: _adjust(late, at), failed="adjustment_failed")


@transaction.atomic
def _adjust(late: LatePeriod, at: datetime) -> bool:
    owner = Organization.objects.get(pk=late.organization_id)
    lock_accounts([owner])
    if late not in late_periods(at=at, organization_ids=[owner.pk]):
        return False
    cut_at = take_ledger_cut([owner.shard])
    lines = [line for found in adjustment_lines([late], cut_at=cut_at).values() for line in found]
    if not lines:
        return False
    statement = Statement.objects.get(
        period_id=late.period_id, kind=StatementKind.PERIOD, state=StatementState.FINALISED
    )
    draft = draft_of(statement.period, lines, cut_at, StatementKind.ADJUSTMENT)
    draft.corrects_id, draft.note = statement.pk, f"Usage of {statement.number} that was reported late."
    _issue(draft, owner, at)
    return True


def _issue(draft: Draft, owner: Organization, at: datetime, settled_minor: int = 0) -> Statement:
    """Number and store one document and what it asks for or gives; `settled_minor` of it was taken off an invoice."""
    accounts, organizations = lock_accounts([owner]), {owner.pk: owner}
    issued = issue_documents([draft], organizations=organizations, accounts=accounts, at=at)
    make_invoices(issued, organizations=organizations, at=at, settled_minor=settled_minor)
    return Statement.objects.select_related("organization").get(pk=issued[0].statement_id)


def _reread(statement: Statement) -> Statement:
    rows = Statement.objects.for_organization(statement.organization).select_related(
        "organization", "period__version__plan", "period__organization"
    )
    return rows.get(pk=statement.pk)
