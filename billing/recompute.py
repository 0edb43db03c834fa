"""Statements again from the ledger: the events stored up to their cut, rated by their plan version, to the same cents."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from billing.drafts import DraftLine, draft_lines, stored_lines
from billing.late import cost_at, late_lines
from billing.models import LineKind, Statement, StatementKind, StatementState


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Something in which a stored statement differs from the ledger."""

    statement: Statement
    where: str
    stored: str
    recomputed: str

    def __str__(self) -> str:
        return f"{self.statement.number} {self.where}: stored {self.stored}, recomputed {self.recomputed}"


def lines_at(statement: Statement, *, cut_at: datetime) -> list[DraftLine]:
    """The lines that a document would have at a cut. Raises ValueError for credit notes: people decided on those."""
    if statement.kind == StatementKind.CREDIT_NOTE:
        raise ValueError("a credit note is not computed from usage")
    own = (
        draft_lines(cost_at(statement.period, cut_at=cut_at))
        if statement.kind == StatementKind.PERIOD
        else []
    )
    late = statement.lines.filter(kind=LineKind.ADJUSTMENT).select_related(
        "of_period__version__plan", "of_period__organization"
    )
    adjusted = {line.of_period_id: line for line in late}
    for line in adjusted.values():
        if line.of_period is not None and line.since is not None:
            own += late_lines(line.of_period, since=line.since, cut_at=cut_at)
    return own


def recompute(statement: Statement) -> list[Discrepancy]:
    """Where a document differs from what the ledger says at its cut; nothing when it is equal. The lines of a credit note
    are added up only."""
    stored = stored_lines(statement)
    total = sum(line.amount_minor for line in stored)
    found = []
    if total != statement.total_minor:
        found.append(Discrepancy(statement, "total", str(statement.total_minor), str(total)))
    if statement.kind == StatementKind.CREDIT_NOTE:
        return found
    lines = lines_at(statement, cut_at=statement.cut_at)
    return [*found, *_compare(statement, stored, lines)]


def standing_statements(*, number: str = "") -> Iterator[Statement]:
    """All documents that stand, or the one with this number or public id."""
    rows = Statement.objects.filter(state=StatementState.FINALISED).select_related(
        "organization", "period__version__plan", "period__organization"
    )
    if number:
        rows = rows.filter(number=number) | rows.filter(public_id=number)
    return rows.order_by("pk").iterator(chunk_size=500)


def _compare(
    statement: Statement, stored: list[DraftLine], recomputed: list[DraftLine]
) -> Iterable[Discrepancy]:
    if len(stored) != len(recomputed):
        yield Discrepancy(statement, "lines", str(len(stored)), str(len(recomputed)))
        return
    for position, (old, new) in enumerate(zip(stored, recomputed, strict=True), 1):
        for name in DraftLine._fields:
            was, now = getattr(old, name), getattr(new, name)
            if was != now:
                yield Discrepancy(statement, f"line {position} {name}", _text(was), _text(now))


def _text(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    return str(value)
