"""Tables that Django cannot say: `usage_event` by month, `usage_event_key` by hash, and the function that makes a month.

The function belongs to the role that migrates and runs with its rights, so that the application's role, which may not
create tables, can make a missing month in the drain's own transaction. See deploy/sql/roles.sql.
"""

from django.db import migrations

KEY_PARTITIONS = 16

EVENT_TABLE = """
CREATE TABLE usage_event (
    id uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    organization_id bigint NOT NULL,
    mode varchar(4) NOT NULL,
    meter_id bigint NOT NULL,
    period_id bigint NOT NULL,
    quantity numeric(38, 12) NOT NULL,
    api_key_id bigint NOT NULL,
    product_id bigint NOT NULL,
    route_id bigint NOT NULL,
    status smallint NOT NULL,
    duration_us bigint NOT NULL,
    bytes_in bigint NOT NULL,
    bytes_out bigint NOT NULL,
    reason varchar(40) NOT NULL,
    door varchar(8) NOT NULL,
    source varchar(80) NOT NULL,
    external_id varchar(200) NOT NULL,
    request_id varchar(40) NOT NULL,
    corrects_id uuid,
    corrects_occurred_at timestamptz,
    shard smallint NOT NULL,
    epoch varchar(32) NOT NULL,
    seq bigint NOT NULL,
    properties jsonb,
    CONSTRAINT usage_event_pkey PRIMARY KEY (organization_id, id, occurred_at),
    CONSTRAINT usage_event_mode CHECK (mode IN ('live', 'test')),
    CONSTRAINT usage_event_negative_corrects CHECK (quantity >= 0 OR corrects_id IS NOT NULL),
    CONSTRAINT usage_event_properties_size CHECK (octet_length(properties::text) <= 4096)
) PARTITION BY RANGE (occurred_at);
CREATE INDEX usage_event_meter_time ON usage_event (organization_id, mode, meter_id, occurred_at);
CREATE INDEX usage_event_newest ON usage_event (organization_id, mode, occurred_at DESC, id);
"""

# CREATE TABLE ... PARTITION OF would lock the whole ledger out of reading; ATTACH does not. Two drains that miss the same
# month queue at the advisory lock and the second finds the work done (in the catalog itself: to_regclass would answer from
# a cache that an advisory lock does not refresh).
MAKE_PARTITION = """
CREATE FUNCTION usage_event_make_partition(month date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    first_day date := date_trunc('month', month);
    parent regclass := 'usage_event'::regclass;
    name text := 'usage_event_' || to_char(first_day, 'YYYYMM');
BEGIN
    IF EXISTS (SELECT FROM pg_inherits WHERE inhparent = parent AND inhrelid::regclass::text = name) THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(1178747216, 0);
    IF EXISTS (SELECT FROM pg_inherits WHERE inhparent = parent AND inhrelid::regclass::text = name) THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE usage_event INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
    EXECUTE format(
        'ALTER TABLE usage_event ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name,
        to_char(first_day, 'YYYY-MM-DD') || ' 00:00:00+00',
        to_char(first_day + interval '1 month', 'YYYY-MM-DD') || ' 00:00:00+00'
    );
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'farebox_app') THEN
        EXECUTE format('REVOKE ALL ON %I FROM farebox_app', name);  -- rows are reached through usage_event only
    END IF;
    RETURN true;
END
$$;
"""

KEY_TABLE = """
CREATE TABLE usage_event_key (
    organization_id bigint NOT NULL,
    source varchar(80) NOT NULL,
    external_id varchar(200) NOT NULL,
    event_id uuid NOT NULL,
    CONSTRAINT usage_event_key_pkey PRIMARY KEY (organization_id, source, external_id)
) PARTITION BY HASH (organization_id, source, external_id);
""" + "".join(
    f"CREATE TABLE usage_event_key_{number:02d} PARTITION OF usage_event_key"
    f" FOR VALUES WITH (MODULUS {KEY_PARTITIONS}, REMAINDER {number});\n"
    for number in range(KEY_PARTITIONS)
)


class Migration(migrations.Migration):
    dependencies = [("metering", "0001_ledger")]
    operations = [
        migrations.RunSQL(EVENT_TABLE, "DROP TABLE usage_event"),
        migrations.RunSQL(MAKE_PARTITION, "DROP FUNCTION usage_event_make_partition(date)"),
        migrations.RunSQL(KEY_TABLE, "DROP TABLE usage_event_key"),
    ]
