"""Owner keys open what their scopes say; those that exist keep what they opened."""

import django.contrib.postgres.fields
import keys.models
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('keys', '0002_names'),
    ]

    operations = [
        migrations.AddField(
            model_name='ownerkey',
            name='scopes',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('usage', 'Report, correct and count usage'), ('revenue', 'The revenue report'), ('tenants', 'Customers: make, change, close; their keys and usage')], max_length=20), default=keys.models.usual_owner_scopes, size=None),
        ),
    ]
