"""Totals keep the dimensions of a meter apart, period totals know their last reading, and events say when they were stored.

What was stored before has no dimension; its moment of storing is the migration's, a constant, so that no row is rewritten.
"""

import uuid
from datetime import UTC, datetime

from django.db import migrations, models

import metering.models.ledger

EVENT_COLUMNS = """
ALTER TABLE usage_event
    ADD COLUMN dimension varchar(200) NOT NULL DEFAULT '',
    ADD COLUMN stored_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE usage_event ALTER COLUMN stored_at SET DEFAULT clock_timestamp();
-- A correction is found from the event that it corrects.
CREATE INDEX usage_event_corrects ON usage_event (organization_id, corrects_id) WHERE corrects_id IS NOT NULL;
"""
NO_EVENT_COLUMNS = """
DROP INDEX usage_event_corrects;
ALTER TABLE usage_event DROP COLUMN dimension, DROP COLUMN stored_at;
"""

LAST_OF_PERIODS = """
UPDATE usage_period_total p SET last = l.last, last_at = l.last_at, last_id = l.last_id
FROM (
    SELECT DISTINCT ON (organization_id, mode, meter_id, period_id) *
    FROM usage_total
    ORDER BY organization_id, mode, meter_id, period_id, billed_count > 0 DESC, last_at DESC, last_id DESC
) l
WHERE (p.organization_id, p.mode, p.meter_id, p.period_id) = (l.organization_id, l.mode, l.meter_id, l.period_id)
"""

DIMENSION = {"blank": True, "default": "", "max_length": 200}


class Migration(migrations.Migration):
    dependencies = [("metering", "0002_partitions")]
    operations = [
        migrations.RunSQL(EVENT_COLUMNS, NO_EVENT_COLUMNS),
        migrations.AddField(
            "usageevent",
            "dimension",
            models.CharField(
                blank=True,
                help_text="Canonical text of the meter's dimensions, as they were when it was stored.",
                max_length=200,
            ),
        ),
        migrations.AddField(
            "usageevent",
            "stored_at",
            models.DateTimeField(
                db_default=metering.models.ledger.ClockTimestamp(),
                help_text="By the database's clock, under the lock of its shard: cuts compare it.",
            ),
        ),
        migrations.AddField("usagetotal", "dimension", models.CharField(**DIMENSION)),
        migrations.RemoveConstraint("usagetotal", "usage_total_key"),
        migrations.AddConstraint(
            "usagetotal",
            models.UniqueConstraint(
                *map(
                    models.F,
                    (
                        "organization_id",
                        "mode",
                        "meter_id",
                        "period_id",
                        "hour",
                        "api_key_id",
                        "route_id",
                        "status_class",
                        "dimension",
                    ),
                ),
                name="usage_total_key",
            ),
        ),
        migrations.AddField("periodtotal", "dimension", models.CharField(**DIMENSION)),
        migrations.AddField(
            "periodtotal",
            "last",
            models.DecimalField(decimal_places=12, default=0, max_digits=38),
            preserve_default=False,
        ),
        migrations.AddField(
            "periodtotal",
            "last_at",
            models.DateTimeField(default=datetime(1970, 1, 1, tzinfo=UTC)),
            preserve_default=False,
        ),
        migrations.AddField(
            "periodtotal",
            "last_id",
            models.UUIDField(default=uuid.UUID(int=0)),
            preserve_default=False,
        ),
        migrations.RunSQL(LAST_OF_PERIODS, migrations.RunSQL.noop),
        migrations.RemoveConstraint("periodtotal", "usage_period_total_key"),
        migrations.AddConstraint(
            "periodtotal",
            models.UniqueConstraint(
                *map(models.F, ("organization_id", "mode", "meter_id", "period_id", "dimension")),
                name="usage_period_total_key",
            ),
        ),
    ]
