"""A call is found by its request id: reported usage has none and is not in the index."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("metering", "0005_unique_values_and_reasons")]

    operations = [
        migrations.RunSQL(
            "CREATE INDEX usage_event_request ON usage_event (request_id) WHERE request_id <> ''",
            "DROP INDEX usage_event_request",
        )
    ]
