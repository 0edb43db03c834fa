"""Totals from events: after a void, which no sum can take back from a minimum, a maximum or a last reading; and anew.

An event is billed when it has no reason and no void names it. `{voids}` are the voids whose hours are counted again.
"""

from metering.ledger_sql import TOTALS, VALUE_HASH

# Whether event `e` is billed.
BILLED = """(e.reason = '' AND NOT EXISTS (
        SELECT FROM usage_event v
        WHERE v.organization_id = e.organization_id AND v.corrects_id = e.id AND v.reason = 'void'
    ))"""

_VOIDS_OF_BATCH = """usage_batch_2 b JOIN usage_event v ON v.organization_id = b.organization_id AND v.id = b.id
        AND v.occurred_at = TIMESTAMPTZ 'epoch' + b.occurred_us * INTERVAL '1 microsecond'
    WHERE b.reason = 'void'"""
_VOIDS_OF_ORGANIZATION = """usage_event v
    WHERE v.organization_id = %(organization)s AND v.corrects_id IS NOT NULL AND v.reason = 'void'"""

_HOURS = (
    """
WITH hours AS (
    SELECT DISTINCT v.organization_id, v.mode, v.meter_id, v.period_id, date_trunc('hour', v.occurred_at, 'UTC') AS hour,
        v.api_key_id, v.route_id, v.status / 100 AS status_class, v.dimension
    FROM {voids}
)
UPDATE usage_total t SET sum = f.sum, count = f.count, billed_count = f.billed_count, min = f.min, max = f.max,
    last = f.last, last_at = f.last_at, last_id = f.last_id
FROM hours h CROSS JOIN LATERAL (
    SELECT sum(quantity) AS sum, count(*) AS count, count(*) FILTER (WHERE billed) AS billed_count,
        coalesce(min(quantity) FILTER (WHERE billed), 0) AS min,
        coalesce(max(quantity) FILTER (WHERE billed), 0) AS max,
        coalesce((array_agg(quantity ORDER BY occurred_at DESC, ordinal DESC) FILTER (WHERE billed))[1], 0) AS last,
        coalesce(max(occurred_at) FILTER (WHERE billed), max(occurred_at)) AS last_at,
        coalesce((array_agg(ordinal ORDER BY occurred_at DESC, ordinal DESC) FILTER (WHERE billed))[1],
            (array_agg(ordinal ORDER BY occurred_at DESC, ordinal DESC))[1]) AS last_id
    FROM (
        SELECT e.quantity, e.occurred_at, coalesce(e.corrects_id, e.id) AS ordinal,
            """  # noqa: S608  # constants
    + BILLED
    + """ AS billed
        FROM usage_event e
        WHERE (e.organization_id, e.mode, e.meter_id) = (h.organization_id, h.mode, h.meter_id)
            AND e.occurred_at >= h.hour AND e.occurred_at < h.hour + INTERVAL '1 hour' AND e.period_id = h.period_id
            AND (e.api_key_id, e.route_id, e.status / 100, e.dimension)
                = (h.api_key_id, h.route_id, h.status_class, h.dimension)
    ) events
) f
WHERE (t.organization_id, t.mode, t.meter_id, t.period_id, t.hour, t.api_key_id, t.route_id, t.status_class, t.dimension)
    = (h.organization_id, h.mode, h.meter_id, h.period_id, h.hour, h.api_key_id, h.route_id, h.status_class, h.dimension)
"""
)

_PERIODS = """
WITH periods AS (
    SELECT DISTINCT v.organization_id, v.mode, v.meter_id, v.period_id, v.dimension FROM {voids}
)
UPDATE usage_period_total t SET sum = f.sum, count = f.count, billed_count = f.billed_count, max = f.max,
    last = f.last, last_at = f.last_at, last_id = f.last_id, stored_at = clock_timestamp()
FROM periods p CROSS JOIN LATERAL (
    SELECT sum(h.sum) AS sum, sum(h.count) AS count, sum(h.billed_count) AS billed_count,
        coalesce(max(h.max) FILTER (WHERE h.billed_count > 0), 0) AS max,
        (array_agg(h.last ORDER BY h.billed_count > 0 DESC, h.last_at DESC, h.last_id DESC))[1] AS last,
        (array_agg(h.last_at ORDER BY h.billed_count > 0 DESC, h.last_at DESC, h.last_id DESC))[1] AS last_at,
        (array_agg(h.last_id ORDER BY h.billed_count > 0 DESC, h.last_at DESC, h.last_id DESC))[1] AS last_id
    FROM usage_total h
    WHERE (h.organization_id, h.mode, h.meter_id, h.period_id, h.dimension)
        = (p.organization_id, p.mode, p.meter_id, p.period_id, p.dimension)
) f
WHERE (t.organization_id, t.mode, t.meter_id, t.period_id, t.dimension)
    = (p.organization_id, p.mode, p.meter_id, p.period_id, p.dimension)
"""

# A value is forgotten when no billed event of its period names it any more.
_VALUES = (
    """
WITH values AS (
    SELECT DISTINCT o.organization_id, o.mode, o.meter_id, o.period_id, o.dimension, m.value_property,
        """  # noqa: S608  # constants
    + VALUE_HASH.format("o")
    + """ AS value_hash
    FROM usage_event o JOIN plans_meter m ON m.id = o.meter_id AND m.aggregation = 'unique'
    WHERE (o.organization_id, o.id, o.occurred_at) IN (
        SELECT v.organization_id, v.corrects_id, v.corrects_occurred_at FROM {voids}
    )
)
DELETE FROM usage_unique_value u USING values w
WHERE (u.organization_id, u.mode, u.meter_id, u.period_id, u.dimension, u.value_hash)
    = (w.organization_id, w.mode, w.meter_id, w.period_id, w.dimension, w.value_hash)
    AND NOT EXISTS (
        SELECT FROM usage_event e JOIN plans_meter m ON m.id = e.meter_id
        WHERE (e.organization_id, e.mode, e.meter_id, e.period_id, e.dimension)
            = (w.organization_id, w.mode, w.meter_id, w.period_id, w.dimension)
            AND """
    + VALUE_HASH.format("e")
    + " = w.value_hash AND "
    + BILLED
    + ")"
)

_AFTER_VOIDS = (_HOURS, _PERIODS, _VALUES)
AFTER_VOIDS_OF_BATCH = tuple(one.format(voids=_VOIDS_OF_BATCH) for one in _AFTER_VOIDS)
AFTER_VOIDS_OF_ORGANIZATION = tuple(one.format(voids=_VOIDS_OF_ORGANIZATION) for one in _AFTER_VOIDS)

FORGET = tuple(
    f"DELETE FROM {table} WHERE organization_id = %(organization)s"  # noqa: S608  # constants
    for table in ("usage_total", "usage_period_total", "usage_reason_total", "usage_unique_value")
)
COUNT_AGAIN = (
    """
WITH fresh AS (
    SELECT *, coalesce(corrects_id, id) AS ordinal FROM usage_event WHERE organization_id = %(organization)s
),
"""  # noqa: S608  # constants
    + TOTALS
    + "SELECT count(*) FROM fresh"
)
