import django.core.validators
from django.db import migrations, models

HOUR = 3_600


def keep_answers_of_models(apps, schema_editor):
    """Routes of language models keep answers as new ones do; the list of models is ours and needs none."""
    routes = apps.get_model("plans", "Route").objects
    routes.exclude(dialect__in=["", "models"]).update(replay_seconds=HOUR)


class Migration(migrations.Migration):

    dependencies = [
        ("plans", "0012_websockets"),
    ]

    operations = [
        migrations.AddField(
            model_name="route",
            name="replay_seconds",
            field=models.PositiveIntegerField(default=0, help_text="Answers to requests with an Idempotency-Key are kept so long for their retries, which are free. 0: not at all.", validators=[django.core.validators.MaxValueValidator(604800)]),
        ),
        migrations.RunPython(keep_answers_of_models, migrations.RunPython.noop),
    ]
