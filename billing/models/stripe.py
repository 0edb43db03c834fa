"""What we know of Stripe: whose objects are whose, what was told to it, and where its figures differ from ours.

The objects themselves are mirrored by dj-stripe; these rows hold their ids as text, and what our acts need of them.
"""

from typing import ClassVar

from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Q

from accounts.models import Organization
from billing.models.statement import LineKind, Statement
from core.ids import public_id
from core.tenancy import TenantQuerySet
from plans.models import Meter, Period, Plan, PlanVersion, PriceComponent, Subscription

ID_LENGTH = 255


def finding_public_id() -> str:
    return public_id("fnd")


class StripeProduct(models.Model):
    """A plan as Stripe's product."""

    plan = models.OneToOneField(Plan, models.PROTECT, related_name="stripe_product")
    stripe_id = models.CharField(max_length=ID_LENGTH, unique=True)

    def __str__(self) -> str:
        return self.stripe_id


class StripePrice(models.Model):
    """A published version's fee (no component), or one of its components, as Stripe's price. Never edited: a new version
    has new prices, and who is on an old one stays on it."""

    version = models.ForeignKey(PlanVersion, models.PROTECT, related_name="stripe_prices")
    component = models.OneToOneField(
        PriceComponent, models.PROTECT, null=True, blank=True, related_name="stripe_price"
    )
    meter = models.ForeignKey(
        "billing.StripeMeter", models.PROTECT, null=True, blank=True, related_name="prices"
    )
    stripe_id = models.CharField(max_length=ID_LENGTH, unique=True)

    class Meta:
        constraints = [
            models.UniqueConstraint("version", "component", name="stripe_price_once", nulls_distinct=False)
        ]

    def __str__(self) -> str:
        return self.stripe_id


class StripeMeter(models.Model):
    """What one kind of price component counts, as Stripe's meter: the meter, or with `match` the part of it with these
    dimension values. Stripe counts whole numbers: one of its units is 10^-`scale` of the meter's unit."""

    meter = models.ForeignKey(Meter, models.PROTECT, related_name="stripe_meters")
    match = models.JSONField(default=dict, blank=True)
    stripe_id = models.CharField(max_length=ID_LENGTH, unique=True)
    event_name = models.CharField(max_length=100, unique=True)
    scale = models.PositiveSmallIntegerField(default=0, validators=[MaxValueValidator(12)])

    class Meta:
        constraints = [models.UniqueConstraint("meter", "match", name="stripe_meter_once")]

    def __str__(self) -> str:
        return self.event_name


class StripeCustomer(models.Model):
    """An organization as Stripe's customer; made before the first Checkout."""

    organization = models.OneToOneField(Organization, models.PROTECT, related_name="stripe_customer")
    stripe_id = models.CharField(max_length=ID_LENGTH, unique=True)
    card = models.CharField(
        max_length=40, blank=True, help_text="The default payment method in words: Visa ending in 4242."
    )
    agreed = models.JSONField(
        null=True, blank=True, help_text="Name, address and e-mail of both sides when they last were in step."
    )
    deleted_at = models.DateTimeField(
        null=True, blank=True, help_text="Deleted at Stripe; the next Checkout makes another one."
    )

    objects: ClassVar[TenantQuerySet["StripeCustomer"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    def __str__(self) -> str:
        return self.stripe_id


class StripeSubscription(models.Model):
    """Stripe's subscription behind one of ours, for one plan version: an immediate change of plan ends it and starts another.

    `status` and the period are Stripe's own words and figures, as of `synced_at`; `cancels_at` and `next_version` are what
    waits there. Where ours waits for something else, it is carried out there (billing/stripe/changes.py).
    """

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="stripe_subscriptions")
    subscription = models.ForeignKey(Subscription, models.PROTECT, related_name="stripe_subscriptions")
    version = models.ForeignKey(PlanVersion, models.PROTECT, related_name="+")
    next_version = models.ForeignKey(PlanVersion, models.PROTECT, null=True, blank=True, related_name="+")
    stripe_id = models.CharField(max_length=ID_LENGTH, unique=True)
    status = models.CharField(max_length=20)
    current_period_start = models.DateTimeField(null=True, blank=True)
    current_period_end = models.DateTimeField(null=True, blank=True)
    cancels_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    trial_end_told = models.DateTimeField(
        null=True, blank=True, help_text="The end of the trial that the customer got a mail about."
    )
    synced_at = models.DateTimeField()

    objects: ClassVar[TenantQuerySet["StripeSubscription"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "subscription", condition=Q(ended_at=None), name="stripe_subscription_one_open"
            )
        ]
        indexes = [
            # Replaced by another one, and not known to have ended at Stripe: asked for by beat.
            models.Index(
                fields=["ended_at"],
                condition=Q(ended_at__isnull=False) & ~Q(status__in=["canceled", "incomplete_expired"]),
                name="stripe_subscription_to_end",
            )
        ]

    def __str__(self) -> str:
        return self.stripe_id


class UpgradeState(models.TextChoices):
    WAITING = "waiting", "Waits for the customer's bank"
    PAID = "paid", "Paid"
    DROPPED = "dropped", "Not paid: nothing has changed"


class StripeUpgrade(models.Model):
    """An upgrade whose payment the customer has to confirm with the bank (3D Secure). Stripe's subscription of it is incomplete
    until then; the plan changes when it is paid, and nothing does when it is not by `expires_at`."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="stripe_upgrades")
    replaces = models.ForeignKey(StripeSubscription, models.PROTECT, related_name="+")
    version = models.ForeignKey(PlanVersion, models.PROTECT, related_name="+")
    state = models.CharField(max_length=10, choices=UpgradeState.choices, default=UpgradeState.WAITING)
    stripe_id = models.CharField(max_length=ID_LENGTH, unique=True, help_text="Stripe's subscription.")
    url = models.URLField(max_length=2048, help_text="Stripe's page where the customer confirms.")
    due_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    asked_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    objects: ClassVar[TenantQuerySet["StripeUpgrade"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["-asked_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                "organization", condition=Q(state="waiting"), name="stripe_upgrade_one_waits"
            )
        ]

    def __str__(self) -> str:
        return self.stripe_id


class StripeInvoice(models.Model):
    """A demand for payment that Stripe made and sends; amounts in minor units, `state` in Stripe's words."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="stripe_invoices")
    stripe_subscription = models.ForeignKey(
        StripeSubscription, models.PROTECT, null=True, blank=True, related_name="invoices"
    )
    stripe_id = models.CharField(max_length=ID_LENGTH, unique=True)
    number = models.CharField(max_length=60, blank=True)
    state = models.CharField(max_length=20, help_text="draft, open, paid, void or uncollectible.")
    billing_reason = models.CharField(max_length=40, blank=True)
    currency = models.CharField(max_length=3)
    total_minor = models.BigIntegerField(help_text="With tax.")
    tax_minor = models.BigIntegerField(default=0)
    due_minor = models.BigIntegerField(help_text="What is still to be paid.")
    hosted_url = models.URLField(max_length=2048, blank=True)
    pdf_url = models.URLField(max_length=2048, blank=True)
    created_at = models.DateTimeField()
    finalised_at = models.DateTimeField(null=True, blank=True)
    paid_at = models.DateTimeField(null=True, blank=True)
    failed_at = models.DateTimeField(null=True, blank=True, help_text="Of the last attempt that failed.")
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    compared_at = models.DateTimeField(
        null=True, blank=True, help_text="When it was held against our statements, line by line."
    )

    objects: ClassVar[TenantQuerySet["StripeInvoice"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["-created_at", "-pk"]
        indexes = [
            models.Index(fields=["organization", "-created_at"], name="stripe_invoice_organization"),
            models.Index(
                fields=["created_at"], condition=Q(compared_at=None), name="stripe_invoice_to_compare"
            ),
        ]

    def __str__(self) -> str:
        return self.number or self.stripe_id


class StripeItem(models.Model):
    """What Stripe cannot work out itself, as an item of ours on its next invoice: minimums, write-offs, adjustments, usage of
    a period that an upgrade closed, and the credit of its fee. Written with the statement, told to Stripe once."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="stripe_items")
    stripe_subscription = models.ForeignKey(StripeSubscription, models.PROTECT, related_name="items")
    statement = models.ForeignKey(
        Statement, models.PROTECT, null=True, blank=True, related_name="stripe_items"
    )
    period = models.ForeignKey(Period, models.PROTECT, related_name="+")
    kind = models.CharField(max_length=10, choices=LineKind.choices)
    text = models.CharField(max_length=250)
    amount_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    stripe_id = models.CharField(max_length=ID_LENGTH, blank=True)
    error = models.CharField(max_length=300, blank=True)

    objects: ClassVar[TenantQuerySet["StripeItem"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [models.CheckConstraint(condition=~Q(amount_minor=0), name="stripe_item_something")]
        indexes = [
            models.Index(fields=["created_at"], condition=Q(sent_at=None), name="stripe_item_unsent"),
            models.Index(fields=["stripe_id"], name="stripe_item_id"),
        ]

    def __str__(self) -> str:
        return self.text


class StripeCredit(models.Model):
    """Prepaid credit that was used for an invoice of Stripe's: taken from the ledger with this row, then told to Stripe once, as
    an amount on the customer's balance there, which its next invoices use up."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="stripe_credits")
    invoice = models.OneToOneField(StripeInvoice, models.PROTECT, related_name="prepaid")
    transaction = models.OneToOneField(
        "billing.CreditTransaction", models.PROTECT, related_name="stripe_credit"
    )
    amount_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    stripe_id = models.CharField(max_length=ID_LENGTH, blank=True)

    objects: ClassVar[TenantQuerySet["StripeCredit"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(amount_minor__gt=0), name="stripe_credit_positive")]
        indexes = [
            models.Index(fields=["created_at"], condition=Q(sent_at=None), name="stripe_credit_unsent")
        ]

    def __str__(self) -> str:
        return self.stripe_id or str(self.pk)


class StripeLine(models.Model):
    """What one comparison found on an invoice: Stripe's lines of one price and period, or one item, beside ours. Made again by
    the next comparison; where a line of ours stands on no invoice is seen here."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    invoice = models.ForeignKey(StripeInvoice, models.CASCADE, related_name="lines")
    subject = models.CharField(
        max_length=ID_LENGTH, help_text="Stripe's id of the item, or of the price with the period."
    )
    period = models.ForeignKey(Period, models.PROTECT, null=True, related_name="+")
    price = models.ForeignKey(StripePrice, models.PROTECT, null=True, related_name="+")
    item = models.ForeignKey(StripeItem, models.PROTECT, null=True, related_name="lines")
    is_equal = models.BooleanField()
    theirs = models.JSONField(default=dict)
    ours = models.JSONField(default=dict)

    objects: ClassVar[TenantQuerySet["StripeLine"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint("invoice", "subject", name="stripe_line_subject")]

    def __str__(self) -> str:
        return self.subject


class PaymentKind(models.TextChoices):
    PAID = "paid", "Paid"
    FAILED = "failed", "Payment failed"
    REFUNDED = "refunded", "Refunded"
    REFUND_FAILED = "refund_failed", "Refund failed"
    DISPUTED = "disputed", "Disputed"
    DISPUTE_CLOSED = "dispute_closed", "Dispute closed"
    CREDITED = "credit_note", "Credit note at Stripe"


class PaymentEntry(models.Model):
    """The customer's timeline of payments: one row for one thing that happened, however many events tell of it."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="payment_entries")
    invoice = models.ForeignKey(StripeInvoice, models.PROTECT, null=True, blank=True, related_name="entries")
    kind = models.CharField(max_length=14, choices=PaymentKind.choices)
    reference = models.CharField(max_length=ID_LENGTH, help_text="Stripe's id of what happened.")
    amount_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    text = models.CharField(max_length=300, blank=True, help_text="Stripe's reason, where it gives one.")
    at = models.DateTimeField()

    objects: ClassVar[TenantQuerySet["PaymentEntry"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["-at", "-pk"]
        constraints = [models.UniqueConstraint("kind", "reference", name="payment_entry_once")]
        indexes = [models.Index(fields=["organization", "-at"], name="payment_entry_organization")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.reference}"


class UsageState(models.TextChoices):
    PENDING = "pending", "Pending"
    SENDING = "sending", "Being sent"
    SENT = "sent", "Sent"
    UNKNOWN = "unknown", "Unknown"
    REFUSED = "refused", "Refused"


class StripeUsage(models.Model):
    """Outbox of usage: what one hour added to a meter, once. Late usage is another row of the hour (`sequence`), never an edit.

    `value` counts Stripe's whole units and may be negative (corrections). A row is `sending` while a request is under way:
    what is found so after a crash has an unknown fate. Stripe refuses an `identifier` that it has seen within a day.
    """

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    meter = models.ForeignKey(StripeMeter, models.PROTECT, related_name="usage")
    period = models.ForeignKey(Period, models.PROTECT, related_name="+")
    hour = models.DateTimeField()
    sequence = models.PositiveIntegerField()
    value = models.BigIntegerField()
    identifier = models.CharField(max_length=100, unique=True)
    stamped_at = models.DateTimeField(
        help_text="The moment that Stripe counts it at: in the hour and in the period."
    )
    state = models.CharField(max_length=7, choices=UsageState.choices, default=UsageState.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    attempted_at = models.DateTimeField(null=True, blank=True)
    first_attempt_at = models.DateTimeField(null=True, blank=True)
    next_attempt_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=300, blank=True)

    objects: ClassVar[TenantQuerySet["StripeUsage"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "organization", "meter", "period", "hour", "sequence", name="stripe_usage_sequence"
            ),
            models.CheckConstraint(condition=~Q(value=0), name="stripe_usage_something"),
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                condition=~Q(state__in=("sent", "refused")),
                name="stripe_usage_due",
            ),
            models.Index(fields=["organization", "meter", "period"], name="stripe_usage_told"),
        ]

    def __str__(self) -> str:
        return self.identifier


class FindingKind(models.TextChoices):
    INVOICE = "invoice", "Invoice and statement differ"
    USAGE = "usage", "Usage differs"
    CUSTOMER = "customer", "Customer differs"
    SUBSCRIPTION = "subscription", "Subscription differs"
    PRICE = "price", "Price differs"
    METER_ERROR = "meter_error", "Stripe refused usage"
    PAYMENT = "payment", "Payment differs"


class StripeFinding(models.Model):
    """A difference between Stripe and us, with both sides, open until it is gone. One row for each `subject`."""

    public_id = models.CharField(max_length=40, unique=True, default=finding_public_id, editable=False)
    organization = models.ForeignKey(
        Organization, models.PROTECT, null=True, blank=True, related_name="stripe_findings"
    )
    invoice = models.ForeignKey(StripeInvoice, models.PROTECT, null=True, blank=True, related_name="findings")
    kind = models.CharField(max_length=12, choices=FindingKind.choices)
    subject = models.CharField(max_length=300, help_text="What it is about: Stripe's ids, line, period.")
    text = models.CharField(max_length=500)
    ours = models.JSONField(default=dict)
    theirs = models.JSONField(default=dict)
    behind = models.JSONField(
        default=dict, help_text="Of usage: the calls, and the rows told, by hour (billing/stripe/behind.py)."
    )
    opened_at = models.DateTimeField()
    told_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[TenantQuerySet["StripeFinding"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["-opened_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                "kind", "subject", condition=Q(closed_at=None), name="stripe_finding_open_once"
            )
        ]

    def __str__(self) -> str:
        return self.text
