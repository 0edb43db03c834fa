"""Invoices: the demand for payment of one statement."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from accounts.models import Organization, User
from billing.models.statement import Statement
from core.ids import public_id
from core.tenancy import TenantQuerySet


def invoice_public_id() -> str:
    return public_id("invoice")


class InvoiceState(models.TextChoices):
    OPEN = "open", "Open"
    PAID = "paid", "Paid"
    PAST_DUE = "past_due", "Past due"
    VOID = "void", "Void"
    UNCOLLECTIBLE = "uncollectible", "Uncollectible"


class CollectorName(models.TextChoices):
    MANUAL = "manual", "By hand"
    STRIPE = "stripe", "Stripe"


class Invoice(models.Model):
    """`amount_minor` is the statement's total; prepaid credit and credit notes come off it, the rest is due."""

    public_id = models.CharField(max_length=40, unique=True, default=invoice_public_id, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="invoices")
    statement = models.OneToOneField(Statement, models.PROTECT, related_name="invoice")
    amount_minor = models.BigIntegerField()
    prepaid_minor = models.BigIntegerField(default=0, help_text="Prepaid credit that was applied.")
    credited_minor = models.BigIntegerField(
        default=0, help_text="Taken off by credit notes while it was open."
    )
    currency = models.CharField(max_length=3)
    state = models.CharField(max_length=13, choices=InvoiceState.choices, default=InvoiceState.OPEN)
    collector = models.CharField(max_length=6, choices=CollectorName.choices, default=CollectorName.MANUAL)
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField()
    past_due_at = models.DateTimeField(null=True, blank=True)
    paid_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True, help_text="Void or given up.")
    reference = models.CharField(
        max_length=120, blank=True, help_text="Of the payment: bank reference, cheque."
    )
    closed_by = models.ForeignKey(User, models.PROTECT, null=True, blank=True, related_name="+")

    objects: ClassVar[TenantQuerySet["Invoice"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    amount_minor__gt=0,
                    prepaid_minor__gte=0,
                    credited_minor__gte=0,
                    amount_minor__gte=F("prepaid_minor") + F("credited_minor"),
                ),
                name="invoice_amounts",
            ),
            models.CheckConstraint(
                condition=~Q(state="paid") | Q(paid_at__isnull=False), name="invoice_paid_has_time"
            ),
        ]
        indexes = [
            models.Index(
                fields=["due_at"], condition=Q(state__in=("open", "past_due")), name="invoice_unpaid"
            ),
            models.Index(fields=["created_at"], condition=Q(sent_at=None), name="invoice_unsent"),
            models.Index(fields=["organization", "-created_at"], name="invoice_organization"),
        ]

    def __str__(self) -> str:
        return self.public_id

    @property
    def is_unpaid(self) -> bool:
        return self.state in (InvoiceState.OPEN, InvoiceState.PAST_DUE)

    @property
    def due_minor(self) -> int:
        """What is still to be paid; 0 once it is paid or closed."""
        return self.amount_minor - self.prepaid_minor - self.credited_minor if self.is_unpaid else 0
