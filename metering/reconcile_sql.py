"""The statements of a reconciliation, all run in one REPEATABLE READ snapshot.

`%(organization)s` is one organization's id, or NULL for all. The events are read once, into hours.
"""

from metering.totals_sql import BILLED

CUTS = """
CREATE TEMPORARY TABLE reconcile_cut (
    organization_id bigint PRIMARY KEY, shard smallint, epoch text, seq bigint, corrected bigint
) ON COMMIT DROP
"""

# An event is in the counters unless it came after the cut. Those of earlier epochs are: a rebuild read them.
HOURS = """
CREATE TEMPORARY TABLE reconcile_hour ON COMMIT DROP AS
SELECT e.organization_id, e.mode, e.meter_id, e.period_id, date_trunc('hour', e.occurred_at, 'UTC') AS hour,
    e.api_key_id, e.route_id, (e.status / 100)::smallint AS status_class, e.dimension,
    sum(e.quantity) AS sum, count(*) AS count,
    count(*) FILTER (WHERE e.reason = '' AND v.corrects_id IS NULL) AS billed_count,
    coalesce(min(e.quantity) FILTER (WHERE e.reason = '' AND v.corrects_id IS NULL), 0) AS min,
    coalesce(max(e.quantity) FILTER (WHERE e.reason = '' AND v.corrects_id IS NULL), 0) AS max,
    coalesce(sum(e.quantity) FILTER (WHERE (e.epoch = c.epoch AND e.seq > c.seq) IS NOT TRUE), 0) AS cut_sum,
    coalesce(max(e.quantity) FILTER (
        WHERE (e.epoch = c.epoch AND e.seq > c.seq) IS NOT TRUE AND e.reason = '' AND v.corrects_id IS NULL
    ), 0) AS cut_max
FROM usage_event e LEFT JOIN reconcile_cut c USING (organization_id)
LEFT JOIN (
    SELECT organization_id, corrects_id FROM usage_event WHERE corrects_id IS NOT NULL AND reason = 'void'
) v ON v.organization_id = e.organization_id AND v.corrects_id = e.id
WHERE %(organization)s::bigint IS NULL OR e.organization_id = %(organization)s
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
"""

# Last readings and unique values of the meters that are billed by them, and what was not billed, by reason.
OTHER_DIFFERENCES = (
    """
SELECT organization_id, mode, meter_id, period_id, dimension, 'last', e.last, t.last
FROM (
    SELECT DISTINCT ON (e.organization_id, e.mode, e.meter_id, e.period_id, e.dimension)
        e.organization_id, e.mode, e.meter_id, e.period_id, e.dimension, e.quantity AS last
    FROM usage_event e JOIN plans_meter m ON m.id = e.meter_id AND m.aggregation IN ('last', 'time_weighted')
    WHERE (%(organization)s::bigint IS NULL OR e.organization_id = %(organization)s) AND """  # noqa: S608  # constants
    + BILLED
    + """
    ORDER BY e.organization_id, e.mode, e.meter_id, e.period_id, e.dimension, e.occurred_at DESC,
        coalesce(e.corrects_id, e.id) DESC
) e
FULL JOIN (
    SELECT t.* FROM usage_period_total t JOIN plans_meter m ON m.id = t.meter_id AND m.aggregation IN ('last', 'time_weighted')
    WHERE (%(organization)s::bigint IS NULL OR t.organization_id = %(organization)s) AND t.billed_count > 0
) t USING (organization_id, mode, meter_id, period_id, dimension)
WHERE e.last IS DISTINCT FROM t.last
UNION ALL
SELECT organization_id, mode, meter_id, period_id, dimension, 'unique', e.count, t.count
FROM (
    SELECT e.organization_id, e.mode, e.meter_id, e.period_id, e.dimension,
        count(DISTINCT e.properties ->> m.value_property)::numeric AS count
    FROM usage_event e JOIN plans_meter m ON m.id = e.meter_id AND m.aggregation = 'unique'
    WHERE (%(organization)s::bigint IS NULL OR e.organization_id = %(organization)s)
        AND e.properties ->> m.value_property IS NOT NULL AND """
    + BILLED
    + """
    GROUP BY 1, 2, 3, 4, 5
) e
FULL JOIN (
    SELECT organization_id, mode, meter_id, period_id, dimension, count(*)::numeric AS count FROM usage_unique_value
    WHERE %(organization)s::bigint IS NULL OR organization_id = %(organization)s
    GROUP BY 1, 2, 3, 4, 5
) t USING (organization_id, mode, meter_id, period_id, dimension)
WHERE e.count IS DISTINCT FROM t.count
ORDER BY 1, 2, 3, 4, 5
LIMIT 200
"""
)

REASON_DIFFERENCES = """
SELECT organization_id, mode, period_id, reason, e.count, t.count
FROM (
    SELECT organization_id, mode, period_id, reason, count(*) AS count FROM usage_event
    WHERE reason <> '' AND (%(organization)s::bigint IS NULL OR organization_id = %(organization)s)
    GROUP BY 1, 2, 3, 4
) e
FULL JOIN (
    SELECT * FROM usage_reason_total WHERE %(organization)s::bigint IS NULL OR organization_id = %(organization)s
) t USING (organization_id, mode, period_id, reason)
WHERE e.count IS DISTINCT FROM t.count
ORDER BY 1, 2, 3, 4
LIMIT 200
"""

HOUR_DIFFERENCES = """
SELECT organization_id, mode, meter_id, period_id, hour, api_key_id, route_id, status_class, dimension,
    h.sum, h.count, h.billed_count, h.min, h.max, t.sum, t.count, t.billed_count, t.min, t.max
FROM reconcile_hour h
FULL JOIN (
    SELECT * FROM usage_total WHERE %(organization)s::bigint IS NULL OR organization_id = %(organization)s
) t USING (organization_id, mode, meter_id, period_id, hour, api_key_id, route_id, status_class, dimension)
WHERE (h.sum, h.count, h.billed_count, h.min, h.max) IS DISTINCT FROM (t.sum, t.count, t.billed_count, t.min, t.max)
ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9
LIMIT 200
"""

PERIOD_DIFFERENCES = """
SELECT organization_id, mode, meter_id, period_id, dimension,
    h.sum, h.count, h.billed_count, h.max, t.sum, t.count, t.billed_count, t.max
FROM (
    SELECT organization_id, mode, meter_id, period_id, dimension, sum(sum) AS sum, sum(count)::bigint AS count,
        sum(billed_count)::bigint AS billed_count, coalesce(max(max) FILTER (WHERE billed_count > 0), 0) AS max
    FROM reconcile_hour GROUP BY 1, 2, 3, 4, 5
) h
FULL JOIN (
    SELECT * FROM usage_period_total WHERE %(organization)s::bigint IS NULL OR organization_id = %(organization)s
) t USING (organization_id, mode, meter_id, period_id, dimension)
WHERE (h.sum, h.count, h.billed_count, h.max) IS DISTINCT FROM (t.sum, t.count, t.billed_count, t.max)
ORDER BY 1, 2, 3, 4, 5
LIMIT 200
"""

# Corrections that Redis was not told at its cut; the cut names the last one that it was told.
LINES = """
SELECT organization_id, mode, meter_id, period_id,
    coalesce(e.sum, 0), coalesce(t.sum, 0), coalesce(p.sum, 0),
    CASE WHEN m.aggregation = 'max' THEN coalesce(e.cut_max, 0) WHEN m.aggregation NOT IN ('sum', 'count') THEN 0
        ELSE coalesce(e.cut_sum, 0) END - coalesce(w.sum, 0),
    coalesce(e.count, 0)
FROM (
    SELECT organization_id, mode, meter_id, period_id, sum(sum) AS sum, sum(cut_sum) AS cut_sum, max(cut_max) AS cut_max,
        sum(count) AS count
    FROM reconcile_hour GROUP BY 1, 2, 3, 4
) e
FULL JOIN (
    SELECT organization_id, mode, meter_id, period_id, sum(sum) AS sum FROM usage_total
    WHERE %(organization)s::bigint IS NULL OR organization_id = %(organization)s
    GROUP BY 1, 2, 3, 4
) t USING (organization_id, mode, meter_id, period_id)
FULL JOIN (
    SELECT organization_id, mode, meter_id, period_id, sum(sum) AS sum FROM usage_period_total
    WHERE %(organization)s::bigint IS NULL OR organization_id = %(organization)s
    GROUP BY 1, 2, 3, 4
) p USING (organization_id, mode, meter_id, period_id)
FULL JOIN (
    SELECT c.organization_id, c.mode, c.meter_id, c.period_id, sum(c.quantity) AS sum
    FROM usage_counter_correction c JOIN reconcile_cut x USING (organization_id)
    WHERE c.epoch = x.epoch AND c.id > x.corrected AND c.seq <= x.seq
    GROUP BY 1, 2, 3, 4
) w USING (organization_id, mode, meter_id, period_id)
LEFT JOIN plans_meter m ON m.id = meter_id
ORDER BY 1, 2, 3, 4
"""

# Every number of a shard stands somewhere: with a row, with a duplicate, or with a dead letter (until it is replayed).
_NUMBERED = """
SELECT shard, epoch, seq FROM usage_event WHERE seq > 0
UNION ALL SELECT shard, epoch, seq FROM usage_counter_correction WHERE seq > 0
UNION ALL SELECT shard, epoch, seq FROM usage_dead_letter WHERE seq > 0 AND replayed_at IS NULL
"""

NUMBERS = (
    """
SELECT n.shard, n.epoch, count(*), max(n.seq), sum(n.seq)
FROM ("""  # noqa: S608  # a constant
    + _NUMBERED
    + """) n
LEFT JOIN (SELECT shard, epoch, max(seq) AS seq FROM reconcile_cut GROUP BY 1, 2) c USING (shard)
WHERE (n.epoch = c.epoch AND n.seq > c.seq) IS NOT TRUE
GROUP BY 1, 2
"""
)

GAPS = (
    """
SELECT before + 1, seq - 1 FROM (
    SELECT seq, lag(seq, 1, 0::bigint) OVER (ORDER BY seq) AS before FROM ("""  # noqa: S608  # a constant
    + _NUMBERED
    + """) n
    WHERE shard = %(shard)s AND epoch = %(epoch)s AND seq <= %(last)s
    UNION ALL SELECT %(last)s + 1, coalesce(max(seq), 0) FROM ("""
    + _NUMBERED
    + """) n
    WHERE shard = %(shard)s AND epoch = %(epoch)s AND seq <= %(last)s
) pairs
WHERE seq > before + 1 ORDER BY 1 LIMIT 20
"""
)

REPEATED = (
    """
SELECT seq, count(*) FROM ("""  # a constant
    + _NUMBERED
    + """) n
WHERE shard = %(shard)s AND epoch = %(epoch)s AND seq <= %(last)s
GROUP BY seq HAVING count(*) > 1 ORDER BY seq LIMIT 20
"""
)
