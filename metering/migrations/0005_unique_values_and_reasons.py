"""What unique counts have seen, and how many events of a period were not billed, by reason."""

from django.db import migrations, models

MODE = {"choices": [("live", "Live"), ("test", "Test")], "max_length": 4}

# Two drains that store before the new code runs would be missed: `manage.py rebuild_totals` counts again.
REASONS = """
INSERT INTO usage_reason_total (organization_id, mode, period_id, reason, count)
SELECT organization_id, mode, period_id, reason, count(*) FROM usage_event WHERE reason <> '' GROUP BY 1, 2, 3, 4
"""


class Migration(migrations.Migration):
    dependencies = [("metering", "0004_period_totals_tell_when")]
    operations = [
        migrations.CreateModel(
            name="ReasonTotal",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("organization_id", models.BigIntegerField()),
                ("mode", models.CharField(**MODE)),
                ("period_id", models.BigIntegerField()),
                ("reason", models.CharField(max_length=40)),
                ("count", models.BigIntegerField()),
            ],
            options={
                "db_table": "usage_reason_total",
                "constraints": [
                    models.UniqueConstraint(
                        *map(models.F, ("organization_id", "mode", "period_id", "reason")),
                        name="usage_reason_total_key",
                    )
                ],
            },
        ),
        migrations.RunSQL(REASONS, migrations.RunSQL.noop),
        migrations.CreateModel(
            name="UniqueValue",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "organization_id", "mode", "meter_id", "period_id", "dimension", "value_hash",
                        blank=True, editable=False, primary_key=True, serialize=False,
                    ),
                ),
                ("organization_id", models.BigIntegerField()),
                ("mode", models.CharField(**MODE)),
                ("meter_id", models.BigIntegerField()),
                ("period_id", models.BigIntegerField()),
                ("dimension", models.CharField(blank=True, default="", max_length=200)),
                ("value_hash", models.BinaryField(max_length=32)),
            ],
            options={
                "db_table": "usage_unique_value",
                "indexes": [models.Index(fields=["period_id", "meter_id"], name="usage_unique_value_period")],
            },
        ),
    ]  # fmt: skip
