"""Who is billed: names and address on documents, and the customer's own series of document numbers."""

from typing import ClassVar

from django.core.validators import RegexValidator
from django.db import models

from accounts.models import Organization
from core.tenancy import TenantQuerySet

PREFIX = RegexValidator(r"^[A-Z0-9]{2,12}$", "2 to 12 capital letters and digits.")


class BillingAccount(models.Model):
    """An organization as the addressee of documents. Their numbers run without a gap per account (`ACME-0007`), under
    this row's lock, so that no customer can count the others."""

    organization = models.OneToOneField(Organization, models.PROTECT, related_name="billing_account")
    legal_name = models.CharField(max_length=200, blank=True, help_text="Empty: the organization's name.")
    address = models.TextField(max_length=1000, blank=True)
    tax_id = models.CharField(max_length=60, blank=True, help_text="VAT or tax number, printed on documents.")
    email = models.EmailField(
        max_length=254, blank=True, help_text="Where documents go. Empty: owners and billing members."
    )
    currency = models.CharField(max_length=3, default="USD")
    number_prefix = models.CharField(max_length=12, unique=True, validators=[PREFIX])
    next_number = models.PositiveIntegerField(default=1, help_text="Of the next document.")

    objects: ClassVar[TenantQuerySet["BillingAccount"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    def __str__(self) -> str:
        return f"{self.number_prefix} ({self.organization})"
