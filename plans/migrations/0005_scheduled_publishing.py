"""A draft may be published at a moment set beforehand."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("plans", "0004_logs_and_terms_stay")]
    operations = [
        migrations.AddField(
            model_name="planversion",
            name="publish_at",
            field=models.DateTimeField(
                blank=True, help_text="A draft that goes on sale by itself at this moment.", null=True
            ),
        ),
        migrations.AddIndex(
            model_name="planversion",
            index=models.Index(
                fields=["publish_at"],
                name="plan_version_publish_at",
                condition=models.Q(publish_at__isnull=False),
            ),
        ),
    ]
