"""Answers kept for requests that may be sent again."""

import core.crypto
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='KeptAnswer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('caller', models.CharField(max_length=80)),
                ('key', models.CharField(max_length=200)),
                ('fingerprint', models.BinaryField(help_text='SHA-256 of method, path and body.', max_length=32)),
                ('body', core.crypto.EncryptedTextField()),
                ('at', models.DateTimeField()),
                ('kept_until', models.DateTimeField(db_index=True)),
            ],
            options={
                'constraints': [models.UniqueConstraint(models.F('caller'), models.F('key'), name='kept_answer_once')],
            },
        ),
    ]
