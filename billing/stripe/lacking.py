"""Lines of our statements that are on no invoice of Stripe's, once the invoice that should have them is final."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Q, Sum

from accounts.models import Organization
from billing.models import (
    FindingKind,
    LineKind,
    Statement,
    StatementKind,
    StatementLine,
    StatementState,
    StripeFinding,
    StripeInvoice,
    StripeItem,
    StripeLine,
)
from billing.stripe.findings import open_finding
from billing.stripe.items import is_by_card, is_cut_short, metered_lines
from core.one_by_one import one_by_one
from plans.dimensions import match_text

# Without the other side that long after a document was made, something is wrong.
PATIENCE = timedelta(days=2)
LOOK_BACK = timedelta(days=40)
LACKS = "lacks: "  # subjects of these findings


class Lack(NamedTuple):
    """A line of ours, or what the items of one kind come to, that Stripe did not charge; minor units."""

    subject: str
    text: str
    line: StatementLine | None
    amount_minor: int
    currency: str


def check_statements(organization: Organization, *, at: datetime) -> int:
    """Findings for what Stripe lacks of this customer's documents of forty days; those that it has by now are closed. How
    many are lacking. Reads our rows only: what invoices have is known from their comparison. Does nothing while one waits for it."""
    if _waits(organization, at):
        return 0
    lacks = list(lacking(organization, at=at))
    for one in lacks:
        open_finding(
            kind=FindingKind.INVOICE, subject=LACKS + one.subject, text=one.text, at=at,
            organization_id=organization.pk, ours=_side(one),
        )  # fmt: skip
    opened = StripeFinding.objects.filter(
        organization=organization, subject__startswith=LACKS, closed_at=None
    )
    opened.exclude(subject__in=[LACKS + one.subject for one in lacks]).update(closed_at=at)
    return len(lacks)


def check_waiting(*, at: datetime) -> int:
    """Once a night: customers whose document has waited for its invoice for some days, or was lacking something; how many
    were looked at."""
    late = Statement.objects.filter(
        organization__stripe_customer__isnull=False, finalised_at__lte=at - PATIENCE,
        finalised_at__gt=at - 2 * PATIENCE,
    )  # fmt: skip
    opened = StripeFinding.objects.filter(subject__startswith=LACKS, closed_at=None)
    ids = {*late.values_list("organization_id", flat=True), *opened.values_list("organization_id", flat=True)}
    customers = Organization.objects.filter(pk__in=[pk for pk in ids if pk is not None]).order_by("pk")
    return one_by_one(customers, lambda one: _checked(one, at), failed="stripe_statements_not_checked")


def lacking(organization: Organization, *, at: datetime) -> Iterator[Lack]:
    """What Stripe lacks now, document by document, where no invoice is on its way."""
    rows = Statement.objects.for_organization(organization).filter(
        state=StatementState.FINALISED, finalised_at__gt=at - LOOK_BACK
    )
    for statement in rows.select_related("period").order_by("pk"):
        if is_by_card(statement) and _is_due(statement, at):
            yield from _of_statement(statement)


def _checked(organization: Organization, at: datetime) -> bool:
    check_statements(organization, at=at)
    return True


def _is_due(statement: Statement, at: datetime) -> bool:
    """Whether an invoice has followed the period, or should have."""
    followed = StripeInvoice.objects.filter(
        organization_id=statement.organization_id, created_at__gte=statement.ends_at - timedelta(seconds=1)
    )
    return at - statement.finalised_at > PATIENCE or followed.exclude(state="void").exists()


def _waits(organization: Organization, at: datetime) -> bool:
    """Whether an invoice is still to be compared, or about to be final: it may have what seems to be lacking."""
    rows = StripeInvoice.objects.for_organization(organization)
    final = Q(compared_at=None) & ~Q(state__in=("draft", "void"))
    return rows.filter(final | Q(state="draft", created_at__gt=at - PATIENCE)).exists()


def _of_statement(statement: Statement) -> Iterator[Lack]:
    metered = set() if is_cut_short(statement) else metered_lines(statement.version_id)
    there = _priced_lines(statement)
    wanted: dict[str, int] = defaultdict(int)
    for line in statement.lines.select_related("meter"):
        key = (line.meter.slug, line.dimension) if line.meter else None
        if line.kind == LineKind.FEE or (line.kind == LineKind.USAGE and key in metered):
            if line.amount_minor and key not in there:
                text = f"{statement.number}, line {line.position} ({line.text}) is on no invoice of Stripe's: {line.amount_minor} {statement.currency} minor units"
                yield Lack(
                    f"{statement.public_id} line {line.position}",
                    text,
                    line,
                    line.amount_minor,
                    statement.currency,
                )
        else:
            wanted[line.kind] += line.amount_minor
    yield from _items(statement, wanted)


def _priced_lines(statement: Statement) -> set[tuple[str, str] | None]:
    """Meter and dimension of the period's lines on Stripe's invoices; None is the fee."""
    if statement.kind != StatementKind.PERIOD:
        return set()
    lines = StripeLine.objects.filter(period_id=statement.period_id).exclude(price=None)
    found: set[tuple[str, str] | None] = set()
    for line in lines.exclude(invoice__state="void").select_related("price__component__meter"):
        component = line.price.component if line.price else None
        found.add(
            (component.meter.slug, match_text(component.match.items())) if component is not None else None
        )
    return found


def _items(statement: Statement, wanted: dict[str, int]) -> Iterator[Lack]:
    """Items by the kind of their lines: a fee's credit may have been given before, with the upgrade."""
    own = StripeItem.objects.filter(statement=statement)
    given = StripeItem.objects.filter(
        organization_id=statement.organization_id, period_id=statement.period_id, kind=LineKind.FEE_CREDIT
    )
    if statement.kind == StatementKind.PERIOD and given.exists():
        wanted.setdefault(LineKind.FEE_CREDIT, 0)
    for kind, amount in wanted.items():
        rows = given if kind == LineKind.FEE_CREDIT else own.filter(kind=kind)
        made = rows.aggregate(sum=Sum("amount_minor"))["sum"] or 0
        lost = [item for item in rows.filter(lines=None).exclude(sent_at=None) if _is_lost(item)]
        charged = made - sum(item.amount_minor for item in lost)
        if charged != amount:
            label = LineKind(kind).label
            text = f"{statement.number}: items of Stripe's for '{label}' come to {charged}, our lines to {amount} {statement.currency} minor units"
            yield Lack(f"{statement.public_id} {kind}", text, None, amount - charged, statement.currency)


def _is_lost(item: StripeItem) -> bool:
    """Told to Stripe, and not on the invoice that took in all that was pending: somebody deleted it there."""
    later = StripeInvoice.objects.filter(organization_id=item.organization_id, created_at__gt=item.sent_at)
    return later.exclude(compared_at=None).exclude(stripe_subscription=None).exclude(state="void").exists()


def _side(one: Lack) -> dict[str, object]:
    if one.line is None:
        return {"line": one.text, "amount_minor": one.amount_minor, "currency": one.currency}
    where = f"{one.line.statement} line {one.line.position}"
    return {
        "line": one.line.text,
        "amount_minor": one.amount_minor,
        "currency": one.currency,
        "where": where,
        "document": one.line.statement.public_id,
        "position": one.line.position,
    }
