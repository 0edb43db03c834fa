"""Quantities of periods from events: integrals of readings, and everything as it stood at a cut.

`%(cut)s` is a moment, or NULL for all that is stored. An event counts at a cut when it was stored up to it; a reading is
void when a void that was stored up to it names it.
"""

AT_CUT = "(%(cut)s::timestamptz IS NULL OR e.stored_at <= %(cut)s)"
BILLED_AT_CUT = (
    AT_CUT
    + """ AND e.reason = '' AND NOT EXISTS (
        SELECT FROM usage_event v
        WHERE v.organization_id = e.organization_id AND v.corrects_id = e.id AND v.reason = 'void'
            AND (%(cut)s::timestamptz IS NULL OR v.stored_at <= %(cut)s)
    )"""
)

# The value that stood when the period began: the last one of all earlier periods, which their totals know.
_CARRIED_BY_TOTALS = """
    SELECT DISTINCT ON (s.id, t.meter_id, t.dimension)
        s.id, t.meter_id, t.dimension, s.starts_at, 0, t.last_id, t.last, s.until
    FROM spans s
    JOIN plans_period o ON o.organization_id = s.organization_id AND o.starts_at < s.starts_at
    JOIN usage_period_total t ON t.organization_id = s.organization_id AND t.mode = %(mode)s
        AND t.meter_id = ANY(%(meters)s) AND t.period_id = o.id AND t.billed_count > 0
    ORDER BY s.id, t.meter_id, t.dimension, t.last_at DESC, t.last_id DESC
"""

# The same at a cut: totals say only which dimensions there are.
_CARRIED_BY_EVENTS = (
    """
    SELECT s.id, d.meter_id, d.dimension, s.starts_at, 0, c.ordinal, c.quantity, s.until
    FROM spans s
    JOIN (
        SELECT DISTINCT organization_id, meter_id, dimension FROM usage_period_total
        WHERE mode = %(mode)s AND meter_id = ANY(%(meters)s) AND organization_id IN (SELECT organization_id FROM spans)
    ) d ON d.organization_id = s.organization_id
    CROSS JOIN LATERAL (
        SELECT e.quantity, coalesce(e.corrects_id, e.id) AS ordinal
        FROM usage_event e JOIN plans_period o ON o.id = e.period_id AND o.starts_at < s.starts_at
        WHERE e.organization_id = s.organization_id AND e.mode = %(mode)s AND e.meter_id = d.meter_id
            AND e.dimension = d.dimension AND """  # noqa: S608  # constants
    + BILLED_AT_CUT
    + """
        ORDER BY e.occurred_at DESC, ordinal DESC LIMIT 1
    ) c
"""
)


def _stood(carried: str) -> str:
    """`stood`: the readings of periods with the time that each stood."""
    return (
        """
WITH spans AS (
    SELECT id, organization_id, starts_at, least(ends_at, greatest(starts_at, coalesce(%(at)s::timestamptz, ends_at))) AS until
    FROM plans_period WHERE id = ANY(%(periods)s)
), readings (period_id, meter_id, dimension, at, rank, ordinal, quantity, until) AS (
    SELECT s.id, e.meter_id, e.dimension, e.occurred_at, 1, coalesce(e.corrects_id, e.id), e.quantity, s.until
    FROM spans s JOIN usage_event e ON e.organization_id = s.organization_id AND e.mode = %(mode)s
        AND e.meter_id = ANY(%(meters)s) AND e.occurred_at >= s.starts_at AND e.occurred_at < s.until
        AND e.period_id = s.id
    WHERE """  # noqa: S608  # constants
        + BILLED_AT_CUT
        + " UNION ALL ("
        + carried
        + """)
), stood AS (
    SELECT period_id, meter_id, dimension, at, rank, ordinal, quantity,
        lead(at, 1, until) OVER (PARTITION BY period_id, meter_id, dimension ORDER BY at, rank, ordinal) - at AS time
    FROM readings
)
"""
    )


_INTEGRALS = """
SELECT period_id, meter_id, dimension, sum(quantity * extract(epoch FROM time) * 1000000)
FROM stood GROUP BY 1, 2, 3 HAVING max(rank) = 1 OR max(quantity) > 0
"""
STOOD, STOOD_AT_CUT = _stood(_CARRIED_BY_TOTALS), _stood(_CARRIED_BY_EVENTS)
INTEGRALS, INTEGRALS_AT_CUT = STOOD + _INTEGRALS, STOOD_AT_CUT + _INTEGRALS

TOTALS = """
SELECT period_id, meter_id, dimension, sum, billed_count, max, last FROM usage_period_total
WHERE period_id = ANY(%(periods)s) AND mode = %(mode)s
"""

UNIQUE = """
SELECT period_id, meter_id, dimension, count(*) FROM usage_unique_value
WHERE period_id = ANY(%(periods)s) AND meter_id = ANY(%(meters)s) AND mode = %(mode)s
GROUP BY 1, 2, 3
"""

# Totals say in which hours the events of a period lie, also of those that came with an odd time.
_EVENTS = """
FROM (
    SELECT meter_id, min(hour) AS first, max(hour) + INTERVAL '1 hour' AS past FROM usage_total
    WHERE organization_id = %(organization)s AND mode = %(mode)s AND meter_id = ANY(%(meters)s) AND period_id = %(period)s
    GROUP BY 1
) b
JOIN plans_meter m ON m.id = b.meter_id
JOIN usage_event e ON e.organization_id = %(organization)s AND e.mode = %(mode)s AND e.meter_id = b.meter_id
    AND e.occurred_at >= b.first AND e.occurred_at < b.past AND e.period_id = %(period)s
WHERE """

SUMS_AT_CUT = "SELECT e.meter_id, e.dimension, sum(e.quantity)" + _EVENTS + AT_CUT + " GROUP BY 1, 2"

MEASURES_AT_CUT = (
    """
SELECT e.meter_id, e.dimension, max(e.quantity),
    (array_agg(e.quantity ORDER BY e.occurred_at DESC, coalesce(e.corrects_id, e.id) DESC))[1],
    count(DISTINCT CASE WHEN m.aggregation = 'unique' THEN e.properties ->> m.value_property END)"""
    + _EVENTS
    + BILLED_AT_CUT
    + " GROUP BY 1, 2"
)
