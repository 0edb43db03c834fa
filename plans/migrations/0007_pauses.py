"""A subscription can be paused by its collector, and the log says so. Only names of values: no table changes."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("plans", "0006_period_ends")]
    operations = [
        migrations.AlterField(
            model_name="subscription",
            name="status",
            field=models.CharField(
                choices=[
                    ("trialing", "Trial"),
                    ("active", "Active"),
                    ("past_due", "Past due"),
                    ("paused", "Paused"),
                    ("suspended", "Suspended"),
                    ("cancelled", "Cancelled"),
                ],
                max_length=10,
            ),
        ),
        migrations.AlterField(
            model_name="subscriptionevent",
            name="kind",
            field=models.CharField(
                choices=[
                    ("trial_started", "Trial started"),
                    ("started", "Started"),
                    ("trial_converted", "Trial converted"),
                    ("trial_ended", "Trial ended without payment"),
                    ("plan_changed", "Plan changed"),
                    ("cancellation_planned", "Cancellation planned"),
                    ("cancellation_undone", "Cancellation undone"),
                    ("past_due", "Payment past due"),
                    ("paid", "Paid again"),
                    ("suspended", "Suspended for payment"),
                    ("paused", "Paused"),
                    ("resumed", "Resumed"),
                    ("ended", "Ended"),
                ],
                max_length=21,
            ),
        ),
    ]
