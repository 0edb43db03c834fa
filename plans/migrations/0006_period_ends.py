"""Periods are found by their end: statements are made of what has just ended."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("plans", "0005_scheduled_publishing")]
    operations = [
        migrations.AddIndex(
            model_name="period", index=models.Index(fields=["ends_at"], name="period_end")
        ),
    ]
