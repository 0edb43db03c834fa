"""The statements that store a batch. It stands in a temporary table first, whose columns are those of entries.COLUMNS."""

# Lives as long as the connection; the number in its name rises when its columns change.
BATCH_TABLE = """
CREATE TEMPORARY TABLE IF NOT EXISTS usage_batch_2 (
    n integer, id uuid, occurred_us bigint, received_us bigint, organization_id bigint, mode text, meter_id bigint,
    period_id bigint, quantity numeric, api_key_id bigint, product_id bigint, route_id bigint, status integer,
    duration_us bigint, bytes_in bigint, bytes_out bigint, reason text, door text, source text, external_id text,
    request_id text, corrects_id uuid, corrects_us bigint, properties jsonb, dimension text, shard smallint,
    epoch text, seq bigint
) ON COMMIT DELETE ROWS
"""

CLAIM_IDS = """
INSERT INTO usage_event_key (organization_id, source, external_id, event_id)
SELECT organization_id, source, external_id, id FROM usage_batch_2 WHERE external_id <> ''
ORDER BY organization_id, source, external_id, n
ON CONFLICT DO NOTHING
"""

# Text of the dimensions that the meter has now, or the one that the event came with (a correction keeps its event's):
# `name=value`, joined by `;` in the meter's order, a missing value empty (plans/dimensions.py reads it). Of a call, its
# `endpoint` and `product` are known without a property.
_ESCAPED = "replace(replace(replace({}, '%', '%25'), ';', '%3B'), '=', '%3D')"
_VALUE = """coalesce(b.properties ->> d.name, CASE
                    WHEN d.name = 'endpoint' THEN (
                        SELECT left('/' || p.slug || r.path, 120)
                        FROM plans_route r JOIN plans_product p ON p.id = r.product_id WHERE r.id = b.route_id
                    )
                    WHEN d.name = 'product' THEN (SELECT p.slug FROM plans_product p WHERE p.id = b.product_id)
                END, '')"""
_DIMENSION = f"""CASE
            WHEN b.dimension IS NOT NULL THEN b.dimension
            WHEN m.dimensions <> '{{}}' THEN (
                SELECT string_agg({_ESCAPED.format("d.name")} || '=' || {_ESCAPED.format(_VALUE)}, ';' ORDER BY d.n)
                FROM unnest(m.dimensions) WITH ORDINALITY AS d (name, n)
            )
            ELSE ''
        END"""  # noqa: S608  # constants

# How a total takes in another. The last reading is the latest billed one, of equal times that of the greater id.
_MERGED = """sum = t.sum + EXCLUDED.sum,
        count = t.count + EXCLUDED.count,
        billed_count = t.billed_count + EXCLUDED.billed_count,
        max = CASE WHEN t.billed_count = 0 THEN EXCLUDED.max WHEN EXCLUDED.billed_count = 0 THEN t.max
            ELSE greatest(t.max, EXCLUDED.max) END,
        (last, last_at, last_id) = (
            SELECT latest.last, latest.last_at, latest.last_id
            FROM (VALUES (t.billed_count > 0, t.last, t.last_at, t.last_id),
                (EXCLUDED.billed_count > 0, EXCLUDED.last, EXCLUDED.last_at, EXCLUDED.last_id)
            ) AS latest (billed, last, last_at, last_id)
            ORDER BY latest.billed DESC, latest.last_at DESC, latest.last_id DESC LIMIT 1
        )"""

# A value of a unique count, whatever its length: `{}` is a row with properties, `m` its meter.
VALUE_HASH = "sha256(convert_to({}.properties ->> m.value_property, 'UTF8'))"

# Totals of the rows in `fresh`, added to what is there. min, max and last are of billed events: an upstream's error is no
# reading. A reading that replaces another takes its place also among those of the same microsecond (`ordinal`).
TOTALS = f"""hours AS (
    SELECT organization_id, mode, meter_id, period_id, date_trunc('hour', occurred_at, 'UTC') AS hour, api_key_id, route_id,
        status / 100 AS status_class, dimension, sum(quantity) AS sum, count(*) AS count,
        count(*) FILTER (WHERE reason = '') AS billed_count,
        coalesce(min(quantity) FILTER (WHERE reason = ''), 0) AS min,
        coalesce(max(quantity) FILTER (WHERE reason = ''), 0) AS max,
        coalesce((array_agg(quantity ORDER BY occurred_at DESC, ordinal DESC) FILTER (WHERE reason = ''))[1], 0) AS last,
        coalesce(max(occurred_at) FILTER (WHERE reason = ''), max(occurred_at)) AS last_at,
        coalesce((array_agg(ordinal ORDER BY occurred_at DESC, ordinal DESC) FILTER (WHERE reason = ''))[1],
            (array_agg(ordinal ORDER BY occurred_at DESC, ordinal DESC))[1]) AS last_id
    FROM fresh
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
), hourly AS (
    INSERT INTO usage_total AS t (
        organization_id, mode, meter_id, period_id, hour, api_key_id, route_id, status_class, dimension, sum, count,
        billed_count, min, max, last, last_at, last_id
    )
    SELECT * FROM hours
    ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9
    ON CONFLICT (organization_id, mode, meter_id, period_id, hour, api_key_id, route_id, status_class, dimension) DO UPDATE SET
        min = CASE WHEN t.billed_count = 0 THEN EXCLUDED.min WHEN EXCLUDED.billed_count = 0 THEN t.min
            ELSE least(t.min, EXCLUDED.min) END,
        {_MERGED}
), period AS (
    INSERT INTO usage_period_total AS t (
        organization_id, mode, meter_id, period_id, dimension, sum, count, billed_count, max, last, last_at, last_id
    )
    SELECT organization_id, mode, meter_id, period_id, dimension, sum(sum), sum(count), sum(billed_count),
        coalesce(max(max) FILTER (WHERE billed_count > 0), 0),
        (array_agg(last ORDER BY billed_count > 0 DESC, last_at DESC, last_id DESC))[1],
        (array_agg(last_at ORDER BY billed_count > 0 DESC, last_at DESC, last_id DESC))[1],
        (array_agg(last_id ORDER BY billed_count > 0 DESC, last_at DESC, last_id DESC))[1]
    FROM hours
    GROUP BY 1, 2, 3, 4, 5
    ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (organization_id, mode, meter_id, period_id, dimension) DO UPDATE SET
        stored_at = clock_timestamp(),
        {_MERGED}
), reasons AS (
    INSERT INTO usage_reason_total AS t (organization_id, mode, period_id, reason, count)
    SELECT organization_id, mode, period_id, reason, count(*) FROM fresh WHERE reason <> ''
    GROUP BY 1, 2, 3, 4
    ORDER BY 1, 2, 3, 4
    ON CONFLICT (organization_id, mode, period_id, reason) DO UPDATE SET count = t.count + EXCLUDED.count
), seen AS (
    INSERT INTO usage_unique_value (organization_id, mode, meter_id, period_id, dimension, value_hash)
    SELECT DISTINCT f.organization_id, f.mode, f.meter_id, f.period_id, f.dimension, {VALUE_HASH.format("f")}
    FROM fresh f JOIN plans_meter m ON m.id = f.meter_id AND m.aggregation = 'unique'
    WHERE f.reason = '' AND f.properties ->> m.value_property IS NOT NULL
    ORDER BY 1, 2, 3, 4, 5, 6
    ON CONFLICT DO NOTHING
)
"""  # noqa: S608  # constants

# One statement, so that totals hold exactly the rows that were new. Ordered by key: two transactions that meet on totals
# wait for each other instead of deadlocking. A key that somebody is changing right now is skipped; its next call tells
# when it was used.
INSERT = (
    """
WITH fresh AS (
    INSERT INTO usage_event (
        id, occurred_at, received_at, organization_id, mode, meter_id, period_id, quantity, api_key_id, product_id,
        route_id, status, duration_us, bytes_in, bytes_out, reason, door, source, external_id, request_id, corrects_id,
        corrects_occurred_at, shard, epoch, seq, properties, dimension
    )
    SELECT b.id, TIMESTAMPTZ 'epoch' + b.occurred_us * INTERVAL '1 microsecond', TIMESTAMPTZ 'epoch' + b.received_us * INTERVAL '1 microsecond',
        b.organization_id, b.mode, b.meter_id, b.period_id, b.quantity, b.api_key_id, b.product_id, b.route_id, b.status,
        b.duration_us, b.bytes_in, b.bytes_out, b.reason, b.door, b.source, b.external_id, b.request_id, b.corrects_id,
        TIMESTAMPTZ 'epoch' + b.corrects_us * INTERVAL '1 microsecond', b.shard, b.epoch, b.seq, b.properties,
        """  # noqa: S608  # constants
    + _DIMENSION
    + """
    FROM usage_batch_2 b
    LEFT JOIN plans_meter m ON m.id = b.meter_id
    LEFT JOIN usage_event_key k ON b.external_id <> '' AND k.organization_id = b.organization_id
        AND k.source = b.source AND k.external_id = b.external_id
    WHERE b.external_id = '' OR k.event_id = b.id
    ORDER BY b.n
    ON CONFLICT DO NOTHING
    RETURNING id, occurred_at, organization_id, mode, meter_id, period_id, quantity, api_key_id, route_id, status, reason, door,
        dimension, properties, coalesce(corrects_id, id) AS ordinal
),
"""
    + TOTALS
    + """, used AS (
    SELECT k.id, u.at
    FROM (SELECT api_key_id, max(occurred_at) AS at FROM fresh WHERE door NOT IN ('ingest', 'correct') GROUP BY 1) u
    JOIN keys_apikey k ON k.id = u.api_key_id
    WHERE k.last_used_at IS NULL OR k.last_used_at < u.at - INTERVAL '60 seconds'
    FOR NO KEY UPDATE OF k SKIP LOCKED
), touched AS (
    UPDATE keys_apikey k SET last_used_at = used.at FROM used WHERE k.id = used.id
)
SELECT organization_id, mode, meter_id, period_id, sum(quantity), count(*) FROM fresh GROUP BY 1, 2, 3, 4
"""
)

# What was counted by a door but is no row of its own: the id or its caller's id is taken. An entry that was delivered
# again has its own row (same number), and is none. A maximum keeps what was counted: nobody knows what it was before.
CORRECT_DUPLICATES = """
INSERT INTO usage_counter_correction (
    shard, epoch, seq, organization_id, mode, meter_id, period_id, quantity, reason, event_id
)
SELECT b.shard, b.epoch, b.seq, b.organization_id, b.mode, b.meter_id, b.period_id,
    CASE WHEN m.aggregation NOT IN ('sum', 'count') THEN 0 ELSE -b.quantity END, 'duplicate', b.id
FROM usage_batch_2 b LEFT JOIN plans_meter m ON m.id = b.meter_id
WHERE NOT EXISTS (
    SELECT FROM usage_event e
    WHERE e.organization_id = b.organization_id AND e.id = b.id
        AND e.occurred_at = TIMESTAMPTZ 'epoch' + b.occurred_us * INTERVAL '1 microsecond'
        AND e.shard = b.shard AND e.epoch = b.epoch AND e.seq = b.seq
)
ORDER BY b.n
ON CONFLICT DO NOTHING
"""
