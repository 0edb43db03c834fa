"""Billing accounts, statements, invoices and the ledger of prepaid credit."""

import billing.models.credit
import billing.models.invoice
import billing.models.statement
import django.core.validators
import django.db.models.deletion
import django.db.models.expressions
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('accounts', '0001_people'),
        ('plans', '0004_logs_and_terms_stay'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='BillingAccount',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('legal_name', models.CharField(blank=True, help_text="Empty: the organization's name.", max_length=200)),
                ('address', models.TextField(blank=True, max_length=1000)),
                ('tax_id', models.CharField(blank=True, help_text='VAT or tax number, printed on documents.', max_length=60)),
                ('email', models.EmailField(blank=True, help_text='Where documents go. Empty: owners and billing members.', max_length=254)),
                ('currency', models.CharField(default='USD', max_length=3)),
                ('number_prefix', models.CharField(max_length=12, unique=True, validators=[django.core.validators.RegexValidator('^[A-Z0-9]{2,12}$', '2 to 12 capital letters and digits.')])),
                ('next_number', models.PositiveIntegerField(default=1, help_text='Of the next document.')),
                ('organization', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='billing_account', to='accounts.organization')),
            ],
        ),
        migrations.CreateModel(
            name='Invoice',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(default=billing.models.invoice.invoice_public_id, editable=False, max_length=40, unique=True)),
                ('amount_minor', models.BigIntegerField()),
                ('prepaid_minor', models.BigIntegerField(default=0, help_text='Prepaid credit that was applied.')),
                ('credited_minor', models.BigIntegerField(default=0, help_text='Taken off by credit notes while it was open.')),
                ('currency', models.CharField(max_length=3)),
                ('state', models.CharField(choices=[('open', 'Open'), ('paid', 'Paid'), ('past_due', 'Past due'), ('void', 'Void'), ('uncollectible', 'Uncollectible')], default='open', max_length=13)),
                ('collector', models.CharField(choices=[('manual', 'By hand'), ('stripe', 'Stripe')], default='manual', max_length=6)),
                ('created_at', models.DateTimeField()),
                ('sent_at', models.DateTimeField(blank=True, null=True)),
                ('due_at', models.DateTimeField()),
                ('past_due_at', models.DateTimeField(blank=True, null=True)),
                ('paid_at', models.DateTimeField(blank=True, null=True)),
                ('closed_at', models.DateTimeField(blank=True, help_text='Void or given up.', null=True)),
                ('reference', models.CharField(blank=True, help_text='Of the payment: bank reference, cheque.', max_length=120)),
                ('closed_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('organization', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='invoices', to='accounts.organization')),
            ],
            options={
                'ordering': ['-created_at', '-pk'],
            },
        ),
        migrations.CreateModel(
            name='CreditTransaction',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('grant', 'Granted'), ('apply', 'Applied to an invoice'), ('give_back', 'Given back from an invoice'), ('expire', 'Expired')], max_length=9)),
                ('at', models.DateTimeField()),
                ('by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('organization', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='credit_transactions', to='accounts.organization')),
                ('invoice', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='credit_transactions', to='billing.invoice')),
            ],
            options={
                'ordering': ['-at', '-pk'],
            },
        ),
        migrations.CreateModel(
            name='Statement',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(default=billing.models.statement.statement_public_id, editable=False, max_length=40, unique=True)),
                ('kind', models.CharField(choices=[('period', 'Statement'), ('adjustment', 'Adjustment'), ('credit_note', 'Credit note')], max_length=11)),
                ('state', models.CharField(choices=[('finalised', 'Final'), ('void', 'Void')], default='finalised', max_length=9)),
                ('number', models.CharField(max_length=24)),
                ('bill_to', models.TextField(blank=True, help_text='Name, address and tax number as they were.')),
                ('currency', models.CharField(max_length=3)),
                ('total_minor', models.BigIntegerField()),
                ('starts_at', models.DateTimeField()),
                ('ends_at', models.DateTimeField()),
                ('cut_at', models.DateTimeField()),
                ('finalised_at', models.DateTimeField()),
                ('voided_at', models.DateTimeField(blank=True, null=True)),
                ('void_reason', models.CharField(blank=True, max_length=200)),
                ('note', models.CharField(blank=True, help_text='Why it was made, printed on it.', max_length=200)),
                ('corrects', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='corrections', to='billing.statement')),
                ('organization', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='statements', to='accounts.organization')),
                ('period', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='statements', to='plans.period')),
                ('replaces', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='replacements', to='billing.statement')),
                ('subscription', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='statements', to='plans.subscription')),
                ('version', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='plans.planversion')),
            ],
            options={
                'ordering': ['-finalised_at', '-pk'],
            },
        ),
        migrations.AddField(
            model_name='invoice',
            name='statement',
            field=models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='invoice', to='billing.statement'),
        ),
        migrations.CreateModel(
            name='CreditGrant',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(default=billing.models.credit.grant_public_id, editable=False, max_length=40, unique=True)),
                ('source', models.CharField(choices=[('granted', 'Granted'), ('purchased', 'Purchased')], max_length=9)),
                ('currency', models.CharField(max_length=3)),
                ('amount_minor', models.BigIntegerField()),
                ('reason', models.CharField(max_length=200)),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
                ('at', models.DateTimeField()),
                ('by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('organization', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='credit_grants', to='accounts.organization')),
                ('statement', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='credit_grant', to='billing.statement')),
            ],
            options={
                'ordering': ['-at', '-pk'],
            },
        ),
        migrations.CreateModel(
            name='StatementLine',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveSmallIntegerField()),
                ('kind', models.CharField(choices=[('fee', 'Fee'), ('fee_credit', 'Credit of the fee'), ('usage', 'Usage'), ('minimum', 'True-up to the minimum'), ('write_off', 'Written off'), ('adjustment', 'Adjustment of an earlier period'), ('credit', 'Credit')], max_length=10)),
                ('text', models.CharField(max_length=200)),
                ('unit', models.CharField(blank=True, max_length=30)),
                ('dimension', models.CharField(blank=True, help_text='Canonical text of the priced dimension values (plans.dimensions).', max_length=400)),
                ('quantity', models.DecimalField(decimal_places=12, max_digits=38)),
                ('amount_minor', models.BigIntegerField()),
                ('since', models.DateTimeField(null=True)),
                ('meter', models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='plans.meter')),
                ('of_period', models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='plans.period')),
                ('statement', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='lines', to='billing.statement')),
            ],
            options={
                'ordering': ['position'],
            },
        ),
        migrations.CreateModel(
            name='StatementTier',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveSmallIntegerField()),
                ('start', models.DecimalField(decimal_places=12, max_digits=38)),
                ('end', models.DecimalField(decimal_places=12, max_digits=38, null=True)),
                ('quantity', models.DecimalField(decimal_places=12, max_digits=38)),
                ('unit_price', models.DecimalField(decimal_places=12, max_digits=24)),
                ('flat', models.DecimalField(decimal_places=24, default=0, max_digits=62)),
                ('amount', models.DecimalField(decimal_places=24, max_digits=62)),
                ('line', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='tiers', to='billing.statementline')),
            ],
            options={
                'ordering': ['position'],
            },
        ),
        migrations.CreateModel(
            name='CreditEntry',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('account', models.CharField(choices=[('customer', "Customer's credit"), ('granted', 'Granted'), ('purchased', 'Purchased'), ('applied', 'Applied to invoices'), ('expired', 'Expired')], max_length=9)),
                ('currency', models.CharField(max_length=3)),
                ('amount_minor', models.BigIntegerField()),
                ('organization', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='accounts.organization')),
                ('grant', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='entries', to='billing.creditgrant')),
                ('transaction', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='entries', to='billing.credittransaction')),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('account', 'customer')), fields=['organization', 'currency'], name='credit_entry_balance')],
                'constraints': [models.CheckConstraint(condition=models.Q(('amount_minor', 0), _negated=True), name='credit_entry_amount')],
            },
        ),
        migrations.AddIndex(
            model_name='credittransaction',
            index=models.Index(fields=['organization', '-at'], name='credit_transaction_org'),
        ),
        migrations.AddIndex(
            model_name='statement',
            index=models.Index(fields=['organization', '-finalised_at'], name='statement_organization'),
        ),
        migrations.AddConstraint(
            model_name='statement',
            constraint=models.UniqueConstraint(models.F('organization'), models.F('number'), name='statement_number'),
        ),
        migrations.AddConstraint(
            model_name='statement',
            constraint=models.UniqueConstraint(models.F('period'), condition=models.Q(('kind', 'period'), ('state', 'finalised')), name='statement_one_per_period'),
        ),
        migrations.AddConstraint(
            model_name='statement',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'finalised'), ('voided_at', None)), models.Q(('state', 'void'), ('voided_at__isnull', False)), _connector='OR'), name='statement_void_has_time'),
        ),
        migrations.AddConstraint(
            model_name='statement',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'credit_note'), _negated=True), models.Q(('corrects__isnull', False), ('total_minor__lt', 0)), _connector='OR'), name='statement_credit_note'),
        ),
        migrations.AddIndex(
            model_name='invoice',
            index=models.Index(condition=models.Q(('state__in', ('open', 'past_due'))), fields=['due_at'], name='invoice_unpaid'),
        ),
        migrations.AddIndex(
            model_name='invoice',
            index=models.Index(condition=models.Q(('sent_at', None)), fields=['created_at'], name='invoice_unsent'),
        ),
        migrations.AddIndex(
            model_name='invoice',
            index=models.Index(fields=['organization', '-created_at'], name='invoice_organization'),
        ),
        migrations.AddConstraint(
            model_name='invoice',
            constraint=models.CheckConstraint(condition=models.Q(('amount_minor__gt', 0), ('amount_minor__gte', django.db.models.expressions.CombinedExpression(models.F('prepaid_minor'), '+', models.F('credited_minor'))), ('credited_minor__gte', 0), ('prepaid_minor__gte', 0)), name='invoice_amounts'),
        ),
        migrations.AddConstraint(
            model_name='invoice',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'paid'), _negated=True), ('paid_at__isnull', False), _connector='OR'), name='invoice_paid_has_time'),
        ),
        migrations.AddIndex(
            model_name='creditgrant',
            index=models.Index(condition=models.Q(('expires_at__isnull', False)), fields=['expires_at'], name='credit_expiry'),
        ),
        migrations.AddConstraint(
            model_name='creditgrant',
            constraint=models.CheckConstraint(condition=models.Q(('amount_minor__gt', 0)), name='credit_grant_amount'),
        ),
        migrations.AddIndex(
            model_name='statementline',
            index=models.Index(condition=models.Q(('of_period__isnull', False)), fields=['of_period'], name='statement_line_of_period'),
        ),
        migrations.AddConstraint(
            model_name='statementline',
            constraint=models.UniqueConstraint(models.F('statement'), models.F('position'), name='statement_line_position'),
        ),
        migrations.AddConstraint(
            model_name='statementtier',
            constraint=models.UniqueConstraint(models.F('line'), models.F('position'), name='statement_tier_position'),
        ),
    ]
