"""Pricing models and tiers, units and dimensions of meters; caps, restrictions, overrides, costs, the subscription log."""

import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import plans.models.controls
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0001_people'),
        ('plans', '0002_published_versions_stay'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='CostPrices',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('valid_from', models.DateTimeField()),
                ('currency', models.CharField(default='USD', max_length=3)),
                ('per_compute_ms', models.DecimalField(decimal_places=12, default=0, max_digits=24, validators=[django.core.validators.MinValueValidator(0)])),
                ('per_memory_gb_second', models.DecimalField(decimal_places=12, default=0, max_digits=24, validators=[django.core.validators.MinValueValidator(0)])),
                ('per_kb_out', models.DecimalField(decimal_places=12, default=0, max_digits=24, validators=[django.core.validators.MinValueValidator(0)])),
                ('per_third_party_call', models.DecimalField(decimal_places=12, default=0, max_digits=24, validators=[django.core.validators.MinValueValidator(0)])),
            ],
            options={
                'verbose_name': 'cost prices',
                'verbose_name_plural': 'cost prices',
                'ordering': ['-valid_from'],
            },
        ),
        migrations.CreateModel(
            name='Override',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(default=plans.models.controls.override_public_id, editable=False, max_length=40, unique=True)),
                ('kind', models.CharField(choices=[('rate_limit', 'Rate limit'), ('concurrency', 'Calls at the same time'), ('quota', 'Quota'), ('feature_on', 'Feature added'), ('feature_off', 'Feature taken away')], max_length=11)),
                ('window_seconds', models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1)])),
                ('amount', models.DecimalField(blank=True, decimal_places=9, help_text='Calls for a rate limit or concurrency, units for a quota.', max_digits=24, null=True, validators=[django.core.validators.MinValueValidator(0)])),
                ('feature', models.CharField(blank=True, max_length=60, validators=[django.core.validators.RegexValidator('^[a-z][a-z0-9_]*$', 'Lower case letters, digits and underscore.')])),
                ('reason', models.CharField(max_length=200)),
                ('starts_at', models.DateTimeField()),
                ('ends_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'ordering': ['-starts_at', '-pk'],
            },
        ),
        migrations.CreateModel(
            name='PriceTier',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('up_to', models.DecimalField(blank=True, decimal_places=9, max_digits=24, null=True, validators=[django.core.validators.MinValueValidator(0)])),
                ('unit_price', models.DecimalField(decimal_places=12, default=0, max_digits=24, validators=[django.core.validators.MinValueValidator(0)])),
                ('flat_price', models.DecimalField(decimal_places=12, default=0, help_text='Charged once when the tier is reached, major currency units.', max_digits=24, validators=[django.core.validators.MinValueValidator(0)])),
            ],
            options={
                'ordering': [models.OrderBy(models.F('up_to'), nulls_last=True)],
            },
        ),
        migrations.CreateModel(
            name='Restriction',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('throttle', 'Throttled'), ('block', 'Blocked')], max_length=8)),
                ('calls_per_minute', models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1)])),
                ('cause', models.CharField(help_text='The alert that asked for it, in words.', max_length=120)),
                ('at', models.DateTimeField()),
                ('lifted_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'ordering': ['-at'],
            },
        ),
        migrations.CreateModel(
            name='RouteCost',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('compute_ms', models.DecimalField(blank=True, decimal_places=3, max_digits=14, null=True, validators=[django.core.validators.MinValueValidator(0)])),
                ('memory_mb', models.DecimalField(decimal_places=3, default=0, help_text='While it computes.', max_digits=14, validators=[django.core.validators.MinValueValidator(0)])),
                ('kb_out', models.DecimalField(blank=True, decimal_places=3, max_digits=14, null=True, validators=[django.core.validators.MinValueValidator(0)])),
                ('third_party_calls', models.DecimalField(decimal_places=3, default=0, max_digits=14, validators=[django.core.validators.MinValueValidator(0)])),
            ],
            options={
                'verbose_name': 'route cost',
            },
        ),
        migrations.CreateModel(
            name='SpendCap',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('side', models.CharField(choices=[('owner', 'Set by the provider'), ('customer', 'Set by the customer')], max_length=8)),
                ('amount_minor', models.BigIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(0)])),
                ('currency', models.CharField(max_length=3)),
                ('spent_minor', models.BigIntegerField(default=0)),
                ('at', models.DateTimeField()),
            ],
            options={
                'ordering': ['-at', '-pk'],
            },
        ),
        migrations.CreateModel(
            name='SubscriptionEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('trial_started', 'Trial started'), ('started', 'Started'), ('trial_converted', 'Trial converted'), ('trial_ended', 'Trial ended without payment'), ('plan_changed', 'Plan changed'), ('cancellation_planned', 'Cancellation planned'), ('cancellation_undone', 'Cancellation undone'), ('past_due', 'Payment past due'), ('paid', 'Paid again'), ('suspended', 'Suspended for payment'), ('ended', 'Ended')], max_length=21)),
                ('at', models.DateTimeField()),
                ('recorded_at', models.DateTimeField(auto_now_add=True)),
                ('currency', models.CharField(max_length=3)),
                ('mrr_minor', models.BigIntegerField()),
                ('previous_mrr_minor', models.BigIntegerField()),
            ],
            options={
                'ordering': ['at', 'pk'],
            },
        ),
        migrations.AlterModelOptions(
            name='pricecomponent',
            options={'ordering': ['position', 'pk']},
        ),
        migrations.RemoveConstraint(
            model_name='pricecomponent',
            name='price_component_meter',
        ),
        migrations.AddField(
            model_name='meter',
            name='base_per_unit',
            field=models.DecimalField(decimal_places=0, default=1, help_text='How many base units make one unit: 1000000000 bytes are one GB.', max_digits=24, validators=[django.core.validators.MinValueValidator(1)]),
        ),
        migrations.AddField(
            model_name='meter',
            name='base_unit',
            field=models.CharField(blank=True, help_text='A smaller unit that usage may be reported in, for example byte.', max_length=30),
        ),
        migrations.AddField(
            model_name='meter',
            name='dimensions',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=60), blank=True, default=list, help_text='Event properties that prices may differ by: model, region, instance_type.', size=None),
        ),
        migrations.AddField(
            model_name='meter',
            name='filters',
            field=models.JSONField(blank=True, default=dict, help_text='Only these property values count, for example {"direction": ["egress"]}.'),
        ),
        migrations.AddField(
            model_name='meter',
            name='time_unit',
            field=models.CharField(blank=True, choices=[('hour', 'Hour'), ('day', 'Day'), ('month', 'Usage month')], help_text='Time-weighted sums only: what the quantity is multiplied by.', max_length=5),
        ),
        migrations.AddField(
            model_name='meter',
            name='value_property',
            field=models.CharField(blank=True, help_text='Unique counts only: the event property whose different values are counted.', max_length=60),
        ),
        migrations.AddField(
            model_name='plan',
            name='organization',
            field=models.ForeignKey(blank=True, help_text='Only this customer may have it.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='private_plans', to='accounts.organization'),
        ),
        migrations.AddField(
            model_name='planversion',
            name='concurrency',
            field=models.PositiveIntegerField(blank=True, help_text='Calls at the same time. Empty: no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)]),
        ),
        migrations.AddField(
            model_name='planversion',
            name='minimum_minor',
            field=models.BigIntegerField(default=0, help_text='Minimum spend per usage month, minor units; what is missing is charged as a true-up.', validators=[django.core.validators.MinValueValidator(0)]),
        ),
        migrations.AddField(
            model_name='planversion',
            name='over_cap',
            field=models.CharField(choices=[('written_off', 'Written off'), ('billed', 'Billed')], default='written_off', help_text='Usage that is reported after a spend cap was reached.', max_length=11),
        ),
        migrations.AddField(
            model_name='pricecomponent',
            name='match',
            field=models.JSONField(blank=True, default=dict, help_text='Dimension values that it prices, for example {"region": "eu"}.'),
        ),
        migrations.AddField(
            model_name='pricecomponent',
            name='maximum_minor',
            field=models.BigIntegerField(blank=True, help_text='Most that its line costs, minor units.', null=True, validators=[django.core.validators.MinValueValidator(0)]),
        ),
        migrations.AddField(
            model_name='pricecomponent',
            name='model',
            field=models.CharField(choices=[('included', 'Included quantity, then per unit'), ('per_unit', 'Per unit'), ('graduated', 'Graduated (each tier at its own price)'), ('volume', 'Volume (all units at the price of the tier reached)'), ('package', 'Package (whole packages)')], default='included', max_length=9),
        ),
        migrations.AddField(
            model_name='pricecomponent',
            name='package_size',
            field=models.DecimalField(decimal_places=9, default=1, help_text='Units in a package; a begun one is charged whole.', max_digits=24),
        ),
        migrations.AddField(
            model_name='pricecomponent',
            name='position',
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='pricecomponent',
            name='quota',
            field=models.DecimalField(blank=True, decimal_places=9, help_text='Hard quota per usage month: calls above it are refused. Empty: none, or the included quantity where nothing more is sold.', max_digits=24, null=True, validators=[django.core.validators.MinValueValidator(0)]),
        ),
        migrations.AddField(
            model_name='pricecomponent',
            name='text',
            field=models.CharField(blank=True, help_text="Wording of its line; empty: the meter's name.", max_length=120),
        ),
        migrations.RenameField("pricecomponent", "overage_price", "unit_price"),
        migrations.AlterField(
            model_name='pricecomponent',
            name='unit_price',
            field=models.DecimalField(blank=True, decimal_places=12, help_text='Per unit (package) above the included quantity, major currency units. Empty: refused above it (hard quota).', max_digits=24, null=True, validators=[django.core.validators.MinValueValidator(0)]),
        ),
        migrations.AlterField(
            model_name='meter',
            name='aggregation',
            field=models.CharField(choices=[('sum', 'Sum'), ('count', 'Count'), ('max', 'Maximum'), ('last', 'Last'), ('unique', 'Unique count'), ('time_weighted', 'Time-weighted sum')], default='sum', max_length=13),
        ),
        migrations.AddConstraint(
            model_name='meter',
            constraint=models.CheckConstraint(condition=models.Q(('base_per_unit__gte', 1)), name='meter_base_per_unit'),
        ),
        migrations.AddConstraint(
            model_name='plan',
            constraint=models.CheckConstraint(condition=models.Q(('organization', None), ('is_public', False), _connector='OR'), name='plan_private_is_not_public'),
        ),
        migrations.AddConstraint(
            model_name='planversion',
            constraint=models.CheckConstraint(condition=models.Q(('minimum_minor__gte', 0)), name='plan_version_minimum'),
        ),
        migrations.AddConstraint(
            model_name='pricecomponent',
            constraint=models.UniqueConstraint(models.F('version'), models.F('meter'), models.F('match'), name='price_component_meter'),
        ),
        migrations.AddConstraint(
            model_name='pricecomponent',
            constraint=models.CheckConstraint(condition=models.Q(('package_size__gt', 0)), name='price_component_package'),
        ),
        migrations.AddConstraint(
            model_name='costprices',
            constraint=models.UniqueConstraint(models.F('currency'), models.F('valid_from'), name='cost_prices_moment'),
        ),
        migrations.AddField(
            model_name='override',
            name='by',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='override',
            name='meter',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='plans.meter'),
        ),
        migrations.AddField(
            model_name='override',
            name='organization',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='overrides', to='accounts.organization'),
        ),
        migrations.AddField(
            model_name='pricetier',
            name='component',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='tiers', to='plans.pricecomponent'),
        ),
        migrations.AddField(
            model_name='restriction',
            name='organization',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='restrictions', to='accounts.organization'),
        ),
        migrations.AddField(
            model_name='restriction',
            name='period',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='restrictions', to='plans.period'),
        ),
        migrations.AddField(
            model_name='routecost',
            name='route',
            field=models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='cost', to='plans.route'),
        ),
        migrations.AddField(
            model_name='spendcap',
            name='by',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='spendcap',
            name='organization',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='spend_caps', to='accounts.organization'),
        ),
        migrations.AddField(
            model_name='subscriptionevent',
            name='organization',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='subscription_events', to='accounts.organization'),
        ),
        migrations.AddField(
            model_name='subscriptionevent',
            name='previous_version',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='plans.planversion'),
        ),
        migrations.AddField(
            model_name='subscriptionevent',
            name='subscription',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='events', to='plans.subscription'),
        ),
        migrations.AddField(
            model_name='subscriptionevent',
            name='version',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='plans.planversion'),
        ),
        migrations.AddConstraint(
            model_name='override',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('amount__gte', 1), ('kind', 'rate_limit'), ('window_seconds__gte', 1)), models.Q(('amount__gte', 1), ('kind', 'concurrency')), models.Q(('amount__gte', 0), ('kind', 'quota'), ('meter__isnull', False)), models.Q(('kind__in', ('feature_on', 'feature_off')), models.Q(('feature', ''), _negated=True)), _connector='OR'), name='override_is_whole'),
        ),
        migrations.AddConstraint(
            model_name='pricetier',
            constraint=models.UniqueConstraint(models.F('component'), models.F('up_to'), name='price_tier_up_to', nulls_distinct=False),
        ),
        migrations.AddConstraint(
            model_name='restriction',
            constraint=models.CheckConstraint(condition=models.Q(('kind', 'block'), ('calls_per_minute__gte', 1), _connector='OR'), name='restriction_throttle_has_rate'),
        ),
        migrations.AddConstraint(
            model_name='routecost',
            constraint=models.CheckConstraint(condition=models.Q(('memory_mb__gte', 0), ('third_party_calls__gte', 0)), name='route_cost_positive'),
        ),
        migrations.AddIndex(
            model_name='spendcap',
            index=models.Index(fields=['organization', 'side', '-at'], name='spend_cap_newest'),
        ),
        migrations.AddConstraint(
            model_name='spendcap',
            constraint=models.CheckConstraint(condition=models.Q(('amount_minor', None), ('amount_minor__gte', 0), _connector='OR'), name='spend_cap_amount'),
        ),
        migrations.AddIndex(
            model_name='subscriptionevent',
            index=models.Index(fields=['at'], name='subscription_event_at'),
        ),
        migrations.AddIndex(
            model_name='subscriptionevent',
            index=models.Index(fields=['organization', 'at'], name='subscription_event_org'),
        ),
    ]
