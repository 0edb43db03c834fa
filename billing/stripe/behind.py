"""The calls behind a difference of usage: what the ledger has, which rows of the outbox told it, what Stripe counted, by hour.

Rows are dated when they are told, so an hour of Stripe's carries usage of the hour before, too: each row is laid on the
ledger's hours in the order of time, as prices are (billing/breakdown.py).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import stripe

from billing.explain import stored_document
from billing.models import Statement, StatementLine, StripeMeter, StripeUsage, UsageState
from billing.stripe.client import stripe_client
from billing.stripe.sides import whole_units
from core.hours import ceil_hour, floor_hour
from plans.models import Period
from plans.tiers import EXACT, ZERO

HOURS_KEPT = 48
HOUR_FORMAT = "%Y-%m-%dT%H"
Counted = dict[datetime, int]


class Used(NamedTuple):
    """An hour of the ledger: events, and where its units lie among the period's, in Stripe's whole units."""

    hour: datetime
    events: int
    start: int
    end: int


def calls_behind(
    *, period: Period, meter: StripeMeter, line: StatementLine | None = None, invoiced_at: datetime | None = None
) -> dict[str, Any]:  # fmt: skip
    """What is behind the usage of a period at one of Stripe's meters, as JSON; all quantities in Stripe's whole units.

    `hours` has those in which Stripe counted something else than it was told, and those that were told after `invoiced_at`;
    `more` says how many were left out. With a statement's line also the calls. `counted` None: Stripe does not answer.
    """
    used = list(_used(line, meter)) if line is not None else []
    rows = list(_rows(period, meter))
    own = [row for row in rows if row.period_id == period.pk]
    counted = _counted(period, meter)
    told = sum(row.value for row in own)
    hours = [] if counted is None else list(_hours(rows, own, used, counted, invoiced_at))
    found: dict[str, Any] = {
        "meter": meter.event_name,
        "period": str(period),
        "told": told,
        "counted": None if counted is None else sum(counted.values()),
        "hours": hours[:HOURS_KEPT],
        "more": max(len(hours) - HOURS_KEPT, 0),
    }
    if line is not None:
        found |= {
            "document": line.statement.public_id,
            "number": line.statement.number,
            "position": line.position,
            "events": sum(one.events for one in used),
            "recorded": used[-1].end if used else 0,
        }
    return found


def _used(line: StatementLine, meter: StripeMeter) -> Iterator[Used]:
    statements = Statement.objects.select_related(
        "organization", "period__version__plan", "period__organization"
    )
    opened = stored_document(statements.get(pk=line.statement_id)).line(line.position)
    reached, total = 0, ZERO
    for hour in opened.hours():
        total = EXACT.add(total, hour.share.quantity)
        start, reached = reached, whole_units(total, meter)
        yield Used(hour.hour, hour.events, start, reached)


def _rows(period: Period, meter: StripeMeter) -> Iterator[StripeUsage]:
    """Also what other periods told in the hours that this one shares with them."""
    start, end = _span(period)
    yield from StripeUsage.objects.filter(
        organization_id=period.organization_id, meter=meter, stamped_at__gte=start, stamped_at__lt=end
    ).order_by("created_at", "pk")


def _counted(period: Period, meter: StripeMeter) -> Counted | None:
    """Stripe's figures by hour; None when it does not answer."""
    start, end = _span(period)
    params: Any = {
        "customer": period.organization.stripe_customer.stripe_id,
        "start_time": int(start.timestamp()),
        "end_time": int(end.timestamp()),
        "value_grouping_window": "hour",
        "limit": 100,
    }
    try:
        found = stripe_client().v1.billing.meters.event_summaries.list(meter.stripe_id, params)
        return {
            datetime.fromtimestamp(one.start_time, UTC): int(one.aggregated_value)
            for one in found.auto_paging_iter()
        }
    except stripe.StripeError:
        return None


def _span(period: Period) -> tuple[datetime, datetime]:
    """Whole hours that hold the period."""
    return floor_hour(period.starts_at), ceil_hour(period.ends_at)


def _hours(
    rows: Sequence[StripeUsage], own: Sequence[StripeUsage], used: Sequence[Used], counted: Counted,
    invoiced_at: datetime | None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    behind = dict(_laid(own, used))
    by_hour: dict[datetime, list[StripeUsage]] = defaultdict(list)
    for row in rows:
        by_hour[floor_hour(row.stamped_at)].append(row)
    for hour in sorted({*by_hour, *counted}):
        told, there = sum(row.value for row in by_hour[hour]), counted.get(hour, 0)
        late = [row for row in by_hour[hour] if _came_late(row, invoiced_at)]
        if told != there or late:
            yield {
                "hour": hour.strftime(HOUR_FORMAT),
                "told": told,
                "counted": there,
                "rows": [_row(row, is_late=row in late) for row in by_hour[hour]],
                "usage": _usage([one for row in by_hour[hour] for one in behind.get(row.pk, [])]),
            }


def _laid(rows: Sequence[StripeUsage], used: Sequence[Used]) -> Iterator[tuple[int, list[Used]]]:
    """Which hours of the ledger each row told of; a correction downwards tells of none."""
    reached = 0
    for row in rows:
        start, reached = reached, reached + row.value
        yield row.pk, [one for one in used if max(one.start, start) < min(one.end, reached)]


def _came_late(row: StripeUsage, invoiced_at: datetime | None) -> bool:
    """Not told before Stripe made its invoice final."""
    if invoiced_at is None:
        return False
    return row.state != UsageState.SENT or row.sent_at is None or row.sent_at > invoiced_at


def _row(row: StripeUsage, *, is_late: bool) -> dict[str, Any]:
    return {"identifier": row.identifier, "value": row.value, "state": row.state, "is_late": is_late}


def _usage(found: Sequence[Used]) -> list[dict[str, Any]]:
    return [
        {"hour": one.hour.strftime(HOUR_FORMAT), "events": one.events, "units": one.end - one.start}
        for one in dict.fromkeys(found)
    ]
