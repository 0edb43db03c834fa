"""API keys are called so."""

from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('keys', '0001_keys'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='apikey',
            options={'ordering': ['-created_at', '-pk'], 'verbose_name': 'API key'},
        ),
    ]
