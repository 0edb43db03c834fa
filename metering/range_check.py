"""Hourly totals of a range, counted again from events and compared; and repaired, where somebody asks for it."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from django.db import connection, transaction

from accounts.models import Organization
from metering.ledger import lock_shard
from metering.totals import rebuild_totals
from metering.totals_sql import BILLED

SHOWN = 1_000
PATIENCE = "10s"  # for the drain's lock; then the caller is told to come again
_COMPARE = (
    """
WITH counted AS (
    SELECT mode, meter_id, period_id, date_trunc('hour', occurred_at, 'UTC') AS hour, api_key_id, route_id,
        (status / 100)::smallint AS status_class, dimension, sum(quantity) AS sum, count(*) AS count,
        count(*) FILTER (WHERE billed) AS billed_count, coalesce(max(quantity) FILTER (WHERE billed), 0) AS max
    FROM (SELECT e.*, """  # noqa: S608  # constants
    + BILLED
    + """ AS billed FROM usage_event e
        WHERE e.organization_id = %(organization)s AND e.occurred_at >= %(start)s AND e.occurred_at < %(end)s) e
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
), stored AS (
    SELECT mode, meter_id, period_id, hour, api_key_id, route_id, status_class, dimension, sum, count, billed_count, max
    FROM usage_total WHERE organization_id = %(organization)s AND hour >= %(start)s AND hour < %(end)s
)
SELECT mode, coalesce(m.slug, ''), hour, dimension, coalesce(s.sum, 0), coalesce(c.sum, 0), coalesce(s.count, 0), coalesce(c.count, 0)
FROM stored s FULL JOIN counted c USING (mode, meter_id, period_id, hour, api_key_id, route_id, status_class, dimension)
LEFT JOIN plans_meter m ON m.id = meter_id
WHERE (s.sum, s.count, s.billed_count, s.max) IS DISTINCT FROM (c.sum, c.count, c.billed_count, c.max)
ORDER BY hour, m.slug, mode, dimension LIMIT %(limit)s
"""
)


class Difference(NamedTuple):
    """An hourly total that is not what its events say."""

    mode: str
    meter: str
    hour: datetime
    dimension: str
    stored: Decimal
    counted: Decimal
    stored_count: int
    counted_count: int


@dataclass(frozen=True, slots=True)
class RangeCheck:
    """At most 1,000 differences; `repaired` says whether the totals were counted anew."""

    differences: list[Difference]
    repaired: bool


@transaction.atomic
def recount_range(
    organization: Organization, *, start: datetime, end: datetime, repair: bool = False
) -> RangeCheck:
    """Compare the hours of `[start, end)` under the lock of the organization's drain. With `repair`, and only where something
    differs, all totals of the organization are counted again: those of periods belong to those of hours. Again it finds nothing."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [PATIENCE])
    lock_shard(organization.shard, wait=True)
    values: dict[str, Any] = {"organization": organization.pk, "start": start, "end": end, "limit": SHOWN}
    with connection.cursor() as cursor:
        cursor.execute(_COMPARE, values)
        differences = [Difference(*row) for row in cursor.fetchall()]
    if repair and differences:
        rebuild_totals(organization)
    return RangeCheck(differences, repair and bool(differences))
