"""What both sides of a customer last agreed on, which end of a trial was told, and refunds that fail. New columns may be empty."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0009_stripe_lines")]
    operations = [
        migrations.AddField(
            model_name="stripecustomer",
            name="agreed",
            field=models.JSONField(
                blank=True,
                help_text="Name, address and e-mail of both sides when they last were in step.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="stripecustomer",
            name="deleted_at",
            field=models.DateTimeField(
                blank=True, help_text="Deleted at Stripe; the next Checkout makes another one.", null=True
            ),
        ),
        migrations.AddField(
            model_name="stripesubscription",
            name="trial_end_told",
            field=models.DateTimeField(
                blank=True, help_text="The end of the trial that the customer got a mail about.", null=True
            ),
        ),
        migrations.AlterField(
            model_name="paymententry",
            name="kind",
            field=models.CharField(
                choices=[
                    ("paid", "Paid"),
                    ("failed", "Payment failed"),
                    ("refunded", "Refunded"),
                    ("refund_failed", "Refund failed"),
                    ("disputed", "Disputed"),
                    ("dispute_closed", "Dispute closed"),
                    ("credit_note", "Credit note at Stripe"),
                ],
                max_length=14,
            ),
        ),
    ]
