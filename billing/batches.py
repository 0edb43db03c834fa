"""Finalising statements by the thousand: one cut, one lock of the accounts, one COPY for each batch of periods.

A batch is one transaction. It holds the drain's locks of the shards it reads while it takes its cut and reads the totals,
so that the totals are exactly the events stored up to the cut; and the accounts' locks until it commits, so that two
batches that meet on a customer number its documents one after another, and the second finds the first one's.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db import transaction

from accounts.models import Organization
from billing.accounts import lock_accounts
from billing.documents import Issued, issue_documents
from billing.drafts import Draft, DraftLine, draft_lines
from billing.invoices import make_invoices
from billing.late import adjustment_lines, late_periods
from billing.models import Statement, StatementKind
from core.any_of import any_of
from metering.costs import period_costs
from metering.ledger import take_ledger_cut
from plans.models import Period, PlanVersion
from plans.queries import PREFETCH


@transaction.atomic
def finalise_periods(period_ids: Sequence[int], *, at: datetime) -> list[Issued]:
    """The statements of these ended periods that have none yet, with their invoices; nothing for the others."""
    periods = _periods(period_ids)
    organizations = _organizations(periods)
    accounts = lock_accounts(organizations.values())
    periods = _without_statement(periods)
    if not periods:
        return []
    cut_at = take_ledger_cut({organizations[period.organization_id].shard for period in periods})
    costs = period_costs(periods)
    drafts = [
        draft_of(period, draft_lines(cost), cut_at) for period, cost in zip(periods, costs, strict=True)
    ]
    _add_late_lines(drafts, cut_at=cut_at, at=at)
    issued = issue_documents(drafts, organizations=organizations, accounts=accounts, at=at)
    make_invoices(issued, organizations=organizations, at=at)
    return issued


def draft_of(
    period: Period,
    lines: list[DraftLine],
    cut_at: datetime,
    kind: StatementKind = StatementKind.PERIOD,
) -> Draft:
    """A document of a period with these lines."""
    return Draft(
        kind.value,
        period.organization_id,
        period.subscription_id,
        period.pk,
        period.version_id,
        period.version.currency,
        period.starts_at,
        period.ends_at,
        cut_at,
        lines,
    )


def _add_late_lines(drafts: Sequence[Draft], *, cut_at: datetime, at: datetime) -> None:
    """Usage of earlier periods that came late goes onto the customer's first document in its currency."""
    late = late_periods(at=at, organization_ids={draft.organization_id for draft in drafts}, all_ages=False)
    lines = adjustment_lines(late, cut_at=cut_at) if late else {}
    for draft in drafts:
        draft.lines += lines.pop((draft.organization_id, draft.currency), [])


def _periods(period_ids: Sequence[int]) -> list[Period]:
    rows = Period.objects.filter(pk__in=any_of(period_ids)).select_related("organization")
    periods = list(rows.order_by("organization_id", "starts_at"))
    versions = PlanVersion.objects.select_related("plan").prefetch_related(*PREFETCH)
    by_id = versions.in_bulk({period.version_id for period in periods})
    for period in periods:  # few versions, many periods: each is read once
        period.version = by_id[period.version_id]
    return periods


def _organizations(periods: Iterable[Period]) -> dict[int, Organization]:
    return {period.organization_id: period.organization for period in periods}


def _without_statement(periods: Sequence[Period]) -> list[Period]:
    done = set(
        Statement.objects.filter(
            period_id__in=any_of(period.pk for period in periods), kind=StatementKind.PERIOD
        ).values_list("period_id", flat=True)
    )
    return [period for period in periods if period.pk not in done]
