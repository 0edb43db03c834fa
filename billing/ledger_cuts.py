"""Cuts of the ledger: a moment by the database's clock that no later commit can precede."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from django.db import connection

from metering.ledger import lock_shard
from plans.models import Period


def take_ledger_cut(shards: Sequence[int]) -> datetime:
    """A cut of these shards; until the caller's transaction ends nothing more is stored in them."""
    for shard in shards:
        lock_shard(shard, wait=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        row = cursor.fetchone()
    assert row is not None  # noqa: S101
    moment: datetime = row[0]
    return moment


def period_quantities_at(period: Period, *, cut_at: datetime) -> dict[tuple[str, str], Decimal]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT m.slug, e.dimension, sum(e.quantity) FROM usage_event e JOIN plans_meter m ON m.id = e.meter_id"
            " WHERE e.organization_id = %s AND e.mode = 'live' AND e.period_id = %s AND e.stored_at <= %s"
            " AND e.occurred_at >= %s AND e.occurred_at < %s GROUP BY 1, 2",
            [period.organization_id, period.pk, cut_at, period.starts_at, period.ends_at],
        )
        return {(slug, dimension): quantity for slug, dimension, quantity in cursor.fetchall()}
