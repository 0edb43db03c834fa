"""Period totals say when they last grew, so that what came after a statement's cut is found without reading events."""

from django.db import migrations, models

import metering.models.ledger


class Migration(migrations.Migration):
    dependencies = [("metering", "0003_dimensions_and_moments")]
    operations = [
        migrations.AddField(
            "periodtotal",
            "stored_at",
            models.DateTimeField(
                db_default=metering.models.ledger.ClockTimestamp(),
                help_text="When the newest of its events was stored: after a statement's cut, it came late.",
            ),
        ),
    ]
