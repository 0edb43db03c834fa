"""How many calls were made in some periods, and what they cost: read from hourly totals, one pass for all customers.

A call is an event with a route or a status; usage that was reported is none. Corrections stand in the totals of the call
that they correct, but nobody called: they are taken off again (their partial index holds nothing else).
"""

from metering.totals_sql import BILLED

REPORTED = -1  # in place of a route, where usage was reported without a call

# Parameters: `periods` (ids), `routes` with `costs` (of one call, major units) side by side.
CALLS = (
    """
WITH costs AS (
    SELECT * FROM unnest(%(routes)s::bigint[], %(costs)s::numeric[]) AS c (route_id, cost)
), periods AS MATERIALIZED (
    SELECT p.id, p.organization_id, p.starts_at, p.ends_at, v.plan_id
    FROM plans_period p JOIN plans_planversion v ON v.id = p.version_id
    WHERE p.id = ANY(%(periods)s::bigint[])
), totals AS (
    SELECT p.organization_id, p.plan_id, t.*
    FROM periods p CROSS JOIN (VALUES ('live'), ('test')) m (mode) CROSS JOIN LATERAL (
        SELECT t.route_id, t.meter_id, t.mode, t.status_class,
            sum(t.count) AS count, sum(t.billed_count) AS billed, sum(t.sum) AS quantity
        FROM usage_total t
        WHERE t.organization_id = p.organization_id AND t.mode = m.mode AND t.period_id = p.id
            AND t.hour >= date_trunc('hour', p.starts_at, 'UTC') AND t.hour < p.ends_at
        GROUP BY 1, 2, 3, 4
    ) t
    UNION ALL
    SELECT p.organization_id, p.plan_id, e.route_id, e.meter_id, e.mode, e.status / 100,
        -count(*), -count(*) FILTER (WHERE """  # noqa: S608  # constants
    + BILLED
    + f"""), 0
    FROM periods p JOIN usage_event e ON e.organization_id = p.organization_id AND e.period_id = p.id
        AND e.corrects_id IS NOT NULL
    GROUP BY 1, 2, 3, 4, 5, 6
), calls AS (
    SELECT organization_id, plan_id, meter_id,
        CASE WHEN is_call THEN route_id ELSE {REPORTED} END AS route_id,
        CASE WHEN is_call AND mode = 'live' THEN billed ELSE 0 END AS charged,
        CASE WHEN is_call AND mode = 'live' THEN count - billed ELSE 0 END AS uncharged,
        CASE WHEN is_call AND mode = 'test' THEN count ELSE 0 END AS test,
        CASE WHEN mode = 'live' THEN quantity ELSE 0 END AS quantity
    FROM (SELECT *, route_id > 0 OR status_class > 0 AS is_call FROM totals) t
)
SELECT c.organization_id, c.plan_id, c.route_id, c.meter_id, sum(c.charged), sum(c.uncharged), sum(c.test),
    sum(c.quantity), coalesce(sum((c.charged + c.uncharged + c.test) * k.cost), 0),
    coalesce(sum((c.uncharged + c.test) * k.cost), 0)
FROM calls c LEFT JOIN costs k ON k.route_id = c.route_id
GROUP BY GROUPING SETS ((c.organization_id, c.plan_id), (c.route_id, c.meter_id))
"""  # noqa: S608  # constants
)

# The newest hours with calls of each customer and route, of those who call most, and of these a bounded number of calls:
# one pass over totals, and then the index of usage by organization, mode, meter and time, however long the ledger is.
MEASURED = """
WITH periods AS MATERIALIZED (
    SELECT id, organization_id, starts_at, ends_at FROM plans_period WHERE id = ANY(%(periods)s::bigint[])
), newest AS (
    SELECT p.organization_id, p.id AS period_id, t.*,
        row_number() OVER (PARTITION BY t.route_id ORDER BY t.count DESC, t.hour DESC, p.id, t.mode) AS place
    FROM periods p CROSS JOIN (VALUES ('live'), ('test')) m (mode) CROSS JOIN LATERAL (
        SELECT t.mode, t.meter_id, t.route_id, max(t.hour) AS hour, sum(t.count) AS count FROM usage_total t
        WHERE t.organization_id = p.organization_id AND t.mode = m.mode AND t.period_id = p.id
            AND t.hour >= date_trunc('hour', p.starts_at, 'UTC') AND t.hour < p.ends_at
            AND t.route_id = ANY(%(routes)s::bigint[]) AND (t.route_id > 0 OR t.status_class > 0)
        GROUP BY 1, 2, 3
    ) t
)
SELECT n.route_id, avg(s.duration_us), avg(s.bytes_out)
FROM newest n CROSS JOIN LATERAL (
    SELECT e.duration_us, e.bytes_out FROM usage_event e
    WHERE e.organization_id = n.organization_id AND e.mode = n.mode AND e.meter_id = n.meter_id
        AND e.occurred_at >= n.hour - %(hours)s * INTERVAL '1 hour' AND e.occurred_at < n.hour + INTERVAL '1 hour'
        AND e.period_id = n.period_id AND e.route_id = n.route_id AND e.corrects_id IS NULL
        AND (e.route_id > 0 OR e.status > 0)
    ORDER BY e.occurred_at DESC
    LIMIT %(calls)s
) s
WHERE n.place <= %(customers)s
GROUP BY 1
"""
