"""What each event adds to its meter's quantity of a period: `steps (at, beside, id, reading, quantity)`, for every aggregation.
`beside` is the event that a correction corrects: it has that one's time, and stands right after it.

The quantities of all steps add up to the period's quantity, exactly. A sum or count grows by each event; a maximum by what a
reading is above all before it; a last reading is the last event's; a unique count grows by the first event of a value; a
time-weighted sum by each reading's value times the time that it stood.
"""

from metering.aggregation_sql import AT_CUT, BILLED_AT_CUT, STOOD, STOOD_AT_CUT
from plans.models import Aggregation

_EVENTS = """
    FROM usage_event e
    WHERE e.organization_id = %(organization)s AND e.mode = %(mode)s AND e.meter_id = %(meter)s
        AND e.occurred_at >= %(start)s AND e.occurred_at < %(end)s AND e.period_id = %(period)s
        AND e.dimension = ANY(%(dimensions)s) AND """
_IN_ORDER = "ORDER BY e.occurred_at, coalesce(e.corrects_id, e.id)"
_BILLED = _EVENTS + BILLED_AT_CUT
_SUM = (
    "WITH steps AS (SELECT e.occurred_at AS at, coalesce(e.corrects_id, e.id) AS beside, e.id, e.quantity AS reading, e.quantity"
    + _EVENTS
    + AT_CUT
)
_MAX = (
    "WITH steps AS (SELECT e.occurred_at AS at, coalesce(e.corrects_id, e.id) AS beside, e.id, e.quantity AS reading, greatest(0, e.quantity - coalesce("
    f"max(e.quantity) OVER (PARTITION BY e.dimension {_IN_ORDER} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)"
    ") AS quantity" + _BILLED
)
_LAST = (
    "WITH steps AS (SELECT e.occurred_at AS at, coalesce(e.corrects_id, e.id) AS beside, e.id, e.quantity AS reading, CASE WHEN lead(e.id) OVER ("
    f"PARTITION BY e.dimension {_IN_ORDER}) IS NULL THEN e.quantity ELSE 0 END AS quantity" + _BILLED
)
_UNIQUE = (
    "WITH steps AS (SELECT e.occurred_at AS at, coalesce(e.corrects_id, e.id) AS beside, e.id, e.quantity AS reading, CASE WHEN e.properties ->> %(value)s IS NOT"
    f" NULL AND row_number() OVER (PARTITION BY e.dimension, e.properties ->> %(value)s {_IN_ORDER}) = 1"
    " THEN 1 ELSE 0 END::numeric AS quantity" + _BILLED
)
# Rounded where the running sum of a dimension stands, as the sum itself is (metering/aggregation.py).
_WEIGHTED = """, reached AS (
    SELECT at, rank, ordinal AS beside, ordinal AS id, dimension, quantity AS reading, div(2 * 1000000000000 * sum(
        quantity * extract(epoch FROM time) * 1000000
    ) OVER (PARTITION BY dimension ORDER BY at, rank, ordinal) + %(unit_us)s, 2 * %(unit_us)s) * 0.000000000001 AS reached
    FROM stood WHERE dimension = ANY(%(dimensions)s)
), steps AS (
    SELECT at, beside, id, reading, reached - coalesce(
        lag(reached) OVER (PARTITION BY dimension ORDER BY at, rank, id), 0
    ) AS quantity FROM reached
)
"""
_STEPS = {
    Aggregation.SUM: _SUM + ")",
    Aggregation.COUNT: _SUM + ")",
    Aggregation.MAX: _MAX + ")",
    Aggregation.LAST: _LAST + ")",
    Aggregation.UNIQUE: _UNIQUE + ")",
}

HOURS_OF_TOTALS = """
SELECT hour, sum(sum), sum(count)::bigint FROM usage_total
WHERE organization_id = %(organization)s AND mode = %(mode)s AND meter_id = %(meter)s AND period_id = %(period)s
    AND dimension = ANY(%(dimensions)s)
GROUP BY 1 ORDER BY 1
"""
_HOURS = " SELECT date_trunc('hour', at, 'UTC'), sum(quantity), count(*) FROM steps GROUP BY 1 ORDER BY 1"
# The page is cut out after the running sum: of the events of one hour.
_CALLS = """, hour AS (
    SELECT at, beside, id, reading, quantity, sum(quantity) OVER (ORDER BY at, beside, id <> beside, id) AS reached FROM steps
    WHERE at >= %(hour)s AND at < %(hour)s + INTERVAL '1 hour'
)
SELECT at, id, reading, quantity, %(base)s + reached - quantity, beside FROM hour
WHERE (%(after_at)s::timestamptz IS NULL OR (at, beside, id <> beside, id)
        > (%(after_at)s, %(after_beside)s::uuid, %(after_id)s::uuid <> %(after_beside)s::uuid, %(after_id)s::uuid))
    AND (%(only)s::uuid IS NULL OR id = %(only)s)
    AND (%(above)s::numeric IS NULL OR greatest(%(base)s + reached, %(base)s + reached - quantity) > %(above)s AND quantity <> 0)
    AND (%(below)s::numeric IS NULL OR least(%(base)s + reached, %(base)s + reached - quantity) < %(below)s)
ORDER BY at, beside, id <> beside, id LIMIT %(limit)s
"""


def hours(aggregation: str, *, at_cut: bool) -> str:
    """Quantity and number of events of each hour, in the order of time."""
    return _steps(aggregation, at_cut=at_cut) + _HOURS


def calls(aggregation: str, *, at_cut: bool) -> str:
    """The events of one hour with what each adds, and what was reached before it."""
    return _steps(aggregation, at_cut=at_cut) + _CALLS


def _steps(aggregation: str, *, at_cut: bool) -> str:
    if aggregation == Aggregation.TIME_WEIGHTED:
        return (STOOD_AT_CUT if at_cut else STOOD) + _WEIGHTED
    return _STEPS[Aggregation(aggregation)]
