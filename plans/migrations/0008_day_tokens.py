"""Tokens of a day can be limited for one customer."""

import django.core.validators
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0001_people'),
        ('plans', '0007_pauses'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='override',
            name='override_is_whole',
        ),
        migrations.AlterField(
            model_name='override',
            name='amount',
            field=models.DecimalField(blank=True, decimal_places=9, help_text='Calls for a rate limit or concurrency, units for a quota, tokens for a day.', max_digits=24, null=True, validators=[django.core.validators.MinValueValidator(0)]),
        ),
        migrations.AlterField(
            model_name='override',
            name='kind',
            field=models.CharField(choices=[('rate_limit', 'Rate limit'), ('concurrency', 'Calls at the same time'), ('quota', 'Quota'), ('day_tokens', 'Tokens per UTC day'), ('feature_on', 'Feature added'), ('feature_off', 'Feature taken away')], max_length=11),
        ),
        migrations.AddConstraint(
            model_name='override',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('amount__gte', 1), ('kind', 'rate_limit'), ('window_seconds__gte', 1)), models.Q(('amount__gte', 1), ('kind__in', ('concurrency', 'day_tokens'))), models.Q(('amount__gte', 0), ('kind', 'quota'), ('meter__isnull', False)), models.Q(('kind__in', ('feature_on', 'feature_off')), models.Q(('feature', ''), _negated=True)), _connector='OR'), name='override_is_whole'),
        ),
    ]
