"""Runs of the simulator say when they were last worked on, and who was left out."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0004_exchange_rates'),
    ]

    operations = [
        migrations.AddField(
            model_name='simulationrun',
            name='left_out',
            field=models.JSONField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='simulationrun',
            name='progress_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
