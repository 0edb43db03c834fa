"""Runs of the simulator."""

import billing.models.simulation
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0002_documents_stay'),
        ('plans', '0004_logs_and_terms_stay'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='SimulationRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(default=billing.models.simulation.simulation_public_id, editable=False, max_length=40, unique=True)),
                ('months', models.PositiveSmallIntegerField(default=3)),
                ('percent', models.PositiveSmallIntegerField(default=20, help_text='Who would pay more than so much above today.')),
                ('state', models.CharField(choices=[('queued', 'Waiting'), ('running', 'Running'), ('done', 'Done'), ('failed', 'Failed')], default='queued', max_length=7)),
                ('periods_done', models.PositiveIntegerField(default=0)),
                ('periods_in_all', models.PositiveIntegerField(default=0)),
                ('outcomes', models.JSONField(default=list)),
                ('requested_at', models.DateTimeField()),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('plan', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='plans.plan')),
                ('requested_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='simulations', to='plans.planversion')),
            ],
            options={
                'ordering': ['-requested_at'],
            },
        ),
    ]
