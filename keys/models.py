"""API keys of customers and owner keys of the owner's own services. Only hashes are stored."""

from datetime import datetime
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator
from django.db import models

from accounts.models import Organization, User
from core.ids import public_id
from core.tenancy import TenantQuerySet


class Mode(models.TextChoices):
    LIVE = "live", "Live"
    TEST = "test", "Test"


def key_public_id() -> str:
    return public_id("key")


class ApiKeyQuerySet(TenantQuerySet["ApiKey"]):
    def usable(self, at: datetime) -> "ApiKeyQuerySet":
        """Keys that open the door at this moment."""
        return self.filter(models.Q(expires_at=None) | models.Q(expires_at__gt=at), revoked_at=None)


class ApiKey(models.Model):
    """A customer's key. It ends at `expires_at`: its own expiry, or the end of grace after a rotation."""

    public_id = models.CharField(max_length=40, unique=True, default=key_public_id, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="api_keys")
    name = models.CharField(max_length=80)
    mode = models.CharField(max_length=4, choices=Mode.choices)
    hash = models.BinaryField(max_length=32, unique=True, help_text="SHA-256 of the whole key.")
    prefix = models.CharField(max_length=16, help_text="First characters, shown in lists.")
    last4 = models.CharField(max_length=4)
    scopes = ArrayField(
        models.CharField(max_length=80),
        default=list,
        blank=True,
        help_text="product:<slug> or route:<public id>; empty: everything the plan allows.",
    )
    calls_per_minute = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    created_by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    rotated_to = models.OneToOneField(
        "self", models.PROTECT, null=True, blank=True, related_name="rotated_from"
    )
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[ApiKeyQuerySet] = ApiKeyQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["-created_at", "-pk"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}...{self.last4})"

    def state(self, at: datetime) -> str:
        """`active`, `rotating` (replaced, in its grace period), `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= at:
            return "expired"
        return "rotating" if self.rotated_to_id else "active"


class OwnerScope(models.TextChoices):
    """What an owner key opens. The key of ADMIN_API_KEY opens all."""

    USAGE = "usage", "Report, correct and count usage"
    REVENUE = "revenue", "The revenue report"
    TENANTS = "tenants", "Customers: make, change, close; their keys and usage"


def usual_owner_scopes() -> list[str]:
    """What owner keys are for unless they are told: never customers and their keys."""
    return [OwnerScope.USAGE.value, OwnerScope.REVENUE.value]


class OwnerKey(models.Model):
    """A key of the owner's own services: opens what its scopes say of /api/usage/* and /api/admin/*."""

    public_id = models.CharField(max_length=40, unique=True, default=key_public_id, editable=False)
    name = models.CharField(max_length=80)
    hash = models.BinaryField(max_length=32, unique=True)
    last4 = models.CharField(max_length=4)
    scopes = ArrayField(
        models.CharField(max_length=20, choices=OwnerScope.choices), default=usual_owner_scopes
    )
    created_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} (...{self.last4})"
