"""Issuing documents: numbers, rows, invoices and credit of many drafts at once, in the caller's transaction.

One document is a batch of one. Rows go in by COPY, because a month's end makes them by the hundred thousand.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from accounts.models import Organization
from billing.accounts import bill_to, take_number
from billing.drafts import Draft
from billing.models import BillingAccount, StatementState
from billing.models.statement import statement_public_id
from plans.models import Meter

_NEW_IDS = """
WITH new AS MATERIALIZED (
    SELECT nextval(pg_get_serial_sequence(%(table)s, 'id')) AS id FROM generate_series(1, %(count)s)
)
SELECT min(id), max(id), CASE WHEN max(id) - min(id) + 1 > count(*) THEN array_agg(id) END FROM new
"""
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_STATEMENT = (
    "id, public_id, organization_id, subscription_id, period_id, version_id, kind, state, number, bill_to, currency,"
    " total_minor, starts_at, ends_at, cut_at, finalised_at, void_reason, note, corrects_id, replaces_id"
)
_LINE = "id, statement_id, position, kind, text, meter_id, unit, dimension, quantity, amount_minor, of_period_id, since"
_TIER = 'line_id, position, start, "end", quantity, unit_price, amount, flat'


@dataclass(frozen=True, slots=True)
class Issued:
    """A document that has been written."""

    statement_id: int
    number: str
    total_minor: int
    draft: Draft


def issue_documents(
    drafts: Sequence[Draft],
    *,
    organizations: Mapping[int, Organization],
    accounts: Mapping[int, BillingAccount],
    at: datetime,
) -> list[Issued]:
    """Number and store these drafts, in their order. The caller holds the locks of the accounts (by organization id)."""
    if not drafts:
        return []
    meters = dict(Meter.objects.values_list("slug", "pk"))
    issued = []
    for statement_id, draft in zip(new_ids("billing_statement", len(drafts)), drafts, strict=True):
        number = take_number(accounts[draft.organization_id])
        issued.append(Issued(statement_id, number, draft.total_minor, draft))
    copy_rows("billing_statement", _STATEMENT, _statement_rows(issued, organizations, accounts, at))
    line_ids = new_ids("billing_statementline", sum(len(draft.lines) for draft in drafts))
    copy_rows("billing_statementline", _LINE, _line_rows(issued, meters, line_ids))
    copy_rows("billing_statementtier", _TIER, _tier_rows(issued, line_ids))
    touched = {draft.organization_id for draft in drafts}
    _save_numbers([accounts[pk] for pk in touched])
    return issued


def _statement_rows(
    issued: Iterable[Issued],
    organizations: Mapping[int, Organization],
    accounts: Mapping[int, BillingAccount],
    at: datetime,
) -> Iterator[tuple[Any, ...]]:
    for one in issued:
        draft = one.draft
        owner = organizations[draft.organization_id]
        yield (
            one.statement_id,
            statement_public_id(),
            draft.organization_id,
            draft.subscription_id,
            draft.period_id,
            draft.version_id,
            draft.kind,
            StatementState.FINALISED.value,
            one.number,
            _text(bill_to(accounts[owner.pk], owner)),
            draft.currency,
            one.total_minor,
            draft.starts_at,
            draft.ends_at,
            draft.cut_at,
            at,
            "",
            _text(draft.note),
            draft.corrects_id,
            draft.replaces_id,
        )


def _line_rows(
    issued: Iterable[Issued], meters: Mapping[str, int], line_ids: Iterable[int]
) -> Iterator[tuple[Any, ...]]:
    ids = iter(line_ids)
    for one in issued:
        for position, line in enumerate(one.draft.lines, 1):
            meter_id = meters[line.meter] if line.meter else None
            text, dimension = _text(line.text), _text(line.dimension)
            yield (
                next(ids), one.statement_id, position, line.kind, text, meter_id, _text(line.unit), dimension,
                line.quantity, line.amount_minor, line.of_period_id, line.since,
            )  # fmt: skip


def _tier_rows(issued: Iterable[Issued], line_ids: Iterable[int]) -> Iterator[tuple[Any, ...]]:
    lines = (line for one in issued for line in one.draft.lines)
    for line_id, line in zip(line_ids, lines, strict=True):
        for position, tier in enumerate(line.tiers, 1):
            yield (line_id, position, *tier)


def new_ids(table: str, count: int) -> Sequence[int]:
    """Ids for rows whose children are written in the same breath; a range, unless another session took some between."""
    with connection.cursor() as cursor:
        cursor.execute(_NEW_IDS, {"table": table, "count": count})
        first, last, ids = cursor.fetchone() or (0, -1, None)
    return ids or (range(first, last + 1) if count else ())


def copy_rows(table: str, columns: str, rows: Iterable[tuple[Any, ...]]) -> None:
    lines = ["\t".join(["\\N" if value is None else str(value) for value in row]) for row in rows]
    if not lines:
        return
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
        copy.write("\n".join(lines) + "\n")


def _text(value: str) -> str:
    """Text as COPY reads it back; most has nothing to escape."""
    return value.translate(_ESCAPES) if not value.isalnum() else value


def _save_numbers(accounts: Sequence[BillingAccount]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE billing_billingaccount a SET next_number = n.next_number"
            " FROM unnest(%s::bigint[], %s::int[]) AS n (id, next_number) WHERE a.id = n.id",
            [[account.pk for account in accounts], [account.next_number for account in accounts]],
        )
