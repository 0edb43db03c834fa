"""Prepaid credit as a double-entry ledger: every transaction's entries sum to zero, and no row is ever edited.

Money moves between the customer's credit and four accounts of ours. What is left of a grant is the sum of its entries on
the customer's account; triggers see to it that it is never negative.
"""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from accounts.models import Organization, User
from billing.models.invoice import Invoice
from billing.models.statement import Statement
from core.ids import public_id
from core.tenancy import TenantQuerySet


def grant_public_id() -> str:
    return public_id("credit")


class CreditAccount(models.TextChoices):
    CUSTOMER = "customer", "Customer's credit"
    GRANTED = "granted", "Granted"
    PURCHASED = "purchased", "Purchased"
    APPLIED = "applied", "Applied to invoices"
    EXPIRED = "expired", "Expired"


class CreditSource(models.TextChoices):
    GRANTED = "granted", "Granted"
    PURCHASED = "purchased", "Purchased"


class CreditTransactionKind(models.TextChoices):
    GRANT = "grant", "Granted"
    APPLY = "apply", "Applied to an invoice"
    GIVE_BACK = "give_back", "Given back from an invoice"
    EXPIRE = "expire", "Expired"


class CreditGrant(models.Model):
    """Credit given at once, with one expiry. `statement` is the document whose negative total it came from, if any."""

    public_id = models.CharField(max_length=40, unique=True, default=grant_public_id, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="credit_grants")
    source = models.CharField(max_length=9, choices=CreditSource.choices)
    currency = models.CharField(max_length=3)
    amount_minor = models.BigIntegerField()
    reason = models.CharField(max_length=200)
    expires_at = models.DateTimeField(null=True, blank=True)
    statement = models.OneToOneField(
        Statement, models.PROTECT, null=True, blank=True, related_name="credit_grant"
    )
    by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    at = models.DateTimeField()

    objects: ClassVar[TenantQuerySet["CreditGrant"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["-at", "-pk"]
        constraints = [models.CheckConstraint(condition=Q(amount_minor__gt=0), name="credit_grant_amount")]
        indexes = [
            models.Index(fields=["expires_at"], condition=Q(expires_at__isnull=False), name="credit_expiry")
        ]

    def __str__(self) -> str:
        return f"{self.amount_minor} {self.currency}: {self.reason}"


class CreditTransaction(models.Model):
    """Something that happened to a customer's credit; its entries sum to zero (deferred trigger)."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="credit_transactions")
    kind = models.CharField(max_length=9, choices=CreditTransactionKind.choices)
    invoice = models.ForeignKey(Invoice, models.PROTECT, null=True, related_name="credit_transactions")
    by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    at = models.DateTimeField()

    objects: ClassVar[TenantQuerySet["CreditTransaction"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["-at", "-pk"]
        indexes = [models.Index(fields=["organization", "-at"], name="credit_transaction_org")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} at {self.at:%Y-%m-%d}"


class CreditEntry(models.Model):
    """`amount_minor` added to one account; negative takes away. `grant` is whose credit moves."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    transaction = models.ForeignKey(CreditTransaction, models.PROTECT, related_name="entries")
    grant = models.ForeignKey(CreditGrant, models.PROTECT, related_name="entries")
    account = models.CharField(max_length=9, choices=CreditAccount.choices)
    currency = models.CharField(max_length=3)
    amount_minor = models.BigIntegerField()

    objects: ClassVar[TenantQuerySet["CreditEntry"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(amount_minor=0), name="credit_entry_amount"),
        ]
        indexes = [
            models.Index(
                fields=["organization", "currency"],
                condition=Q(account="customer"),
                name="credit_entry_balance",
            )
        ]

    def __str__(self) -> str:
        return f"{self.amount_minor} {self.currency} {self.account}"
