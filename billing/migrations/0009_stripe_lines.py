import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0001_people'),
        ('billing', '0008_stripe_upgrades'),
        ('plans', '0006_period_ends'),
    ]

    operations = [
        migrations.AddField(
            model_name='stripefinding',
            name='behind',
            field=models.JSONField(default=dict, help_text='Of usage: the calls, and the rows told, by hour (billing/stripe/behind.py).'),
        ),
        migrations.AddField(
            model_name='stripefinding',
            name='invoice',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='findings', to='billing.stripeinvoice'),
        ),
        migrations.AlterField(
            model_name='paymententry',
            name='kind',
            field=models.CharField(choices=[('paid', 'Paid'), ('failed', 'Payment failed'), ('refunded', 'Refunded'), ('disputed', 'Disputed'), ('dispute_closed', 'Dispute closed'), ('credit_note', 'Credit note at Stripe')], max_length=14),
        ),
        migrations.AlterField(
            model_name='stripefinding',
            name='kind',
            field=models.CharField(choices=[('invoice', 'Invoice and statement differ'), ('usage', 'Usage differs'), ('customer', 'Customer differs'), ('subscription', 'Subscription differs'), ('price', 'Price differs'), ('meter_error', 'Stripe refused usage'), ('payment', 'Payment differs')], max_length=12),
        ),
        migrations.CreateModel(
            name='StripeLine',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('subject', models.CharField(help_text="Stripe's id of the item, or of the price with the period.", max_length=255)),
                ('is_equal', models.BooleanField()),
                ('theirs', models.JSONField(default=dict)),
                ('ours', models.JSONField(default=dict)),
                ('invoice', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='lines', to='billing.stripeinvoice')),
                ('item', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='lines', to='billing.stripeitem')),
                ('organization', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='accounts.organization')),
                ('period', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='plans.period')),
                ('price', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='billing.stripeprice')),
            ],
            options={
                'ordering': ['pk'],
                'constraints': [models.UniqueConstraint(models.F('invoice'), models.F('subject'), name='stripe_line_subject')],
            },
        ),
        # Earlier comparisons kept no lines: each invoice is held against our statements once more.
        migrations.RunSQL("UPDATE billing_stripeinvoice SET compared_at = NULL", migrations.RunSQL.noop),
    ]
