import django.core.validators
from django.db import migrations, models

MEASURES = [
    ("calls", "The call itself, at the route's units"), ("tokens", "All tokens"), ("input_tokens", "Tokens of the prompt"),
    ("output_tokens", "Tokens of the answer"), ("pictures", "Pictures that a model draws"),
    ("cost", "What the model's prices make of its tokens"),
]


def per_million(text):
    return models.DecimalField(
        blank=True, decimal_places=12, help_text=text, max_digits=24, null=True,
        validators=[django.core.validators.MinValueValidator(0)],
    )


class Migration(migrations.Migration):

    dependencies = [
        ("plans", "0013_replayed_answers"),
    ]

    operations = [
        migrations.AddField("modelprice", "cache_write_1h", per_million("Kept for an hour (Anthropic). Empty: as cache write.")),
        migrations.AddField("modelprice", "image_input", per_million("Empty: as input.")),
        migrations.AddField("modelprice", "image_output", per_million("Empty: as output.")),
        migrations.AddField(
            "modelprice",
            "per_picture",
            models.JSONField(blank=True, default=dict, help_text='Of one drawn picture, by quality and size: {"hd/1024x1792": "0.12", "standard/*": "0.04", "*/*": "0.12"}. In quotes.'),
        ),
        migrations.AlterField("route", "measure", models.CharField(choices=MEASURES, default="calls", help_text="What a call counts as on the meter.", max_length=13)),
        migrations.AlterField("routecharge", "measure", models.CharField(choices=MEASURES, default="tokens", max_length=13)),
    ]
