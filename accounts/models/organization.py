from datetime import datetime
from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from accounts.models.user import User
from core.ids import public_id
from core.tenancy import TenantQuerySet

SHARDS = 64


class OrganizationStatus(models.TextChoices):
    ACTIVE = "active", "Active"
    SUSPENDED = "suspended", "Suspended by staff"


class Role(models.TextChoices):
    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    DEVELOPER = "developer", "Developer"
    BILLING = "billing", "Billing"


def organization_public_id() -> str:
    return public_id("org")


class OrganizationQuerySet(models.QuerySet["Organization"]):
    def of_member(self, user: User) -> "OrganizationQuerySet":
        """Organizations in which this person has a membership, by name."""
        return self.filter(memberships__user=user, archived_at=None).order_by("name", "pk")


class Organization(models.Model):
    """A tenant. `version` rises with every change that the doors must know; `shard` says where its usage lives in Redis."""

    public_id = models.CharField(max_length=40, unique=True, default=organization_public_id, editable=False)
    name = models.CharField(max_length=120)
    shard = models.PositiveSmallIntegerField(editable=False)
    version = models.BigIntegerField(default=1, editable=False)
    status = models.CharField(
        max_length=12,
        choices=OrganizationStatus.choices,
        default=OrganizationStatus.ACTIVE,
    )
    status_reason = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField()
    archived_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[models.Manager["Organization"]] = models.Manager.from_queryset(OrganizationQuerySet)()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(shard__gte=0, shard__lt=SHARDS), name="organization_shard")
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_active(self) -> bool:
        return self.status == OrganizationStatus.ACTIVE and self.archived_at is None


def membership_public_id() -> str:
    return public_id("mem")


class Membership(models.Model):
    public_id = models.CharField(max_length=40, unique=True, default=membership_public_id, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="memberships")
    user = models.ForeignKey(User, models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=12, choices=Role.choices)
    created_at = models.DateTimeField()

    objects: ClassVar[TenantQuerySet["Membership"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [
            models.UniqueConstraint("organization", "user", name="membership_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.organization}"


class InvitationQuerySet(TenantQuerySet["Invitation"]):
    def pending(self) -> "InvitationQuerySet":
        """Neither accepted nor revoked; may have expired."""
        return self.filter(accepted_at=None, revoked_at=None)


def invitation_public_id() -> str:
    return public_id("inv")


class Invitation(models.Model):
    """An offer to join; the link's secret is stored as a hash and shown once, in the mail."""

    public_id = models.CharField(max_length=40, unique=True, default=invitation_public_id, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="invitations")
    email = models.EmailField(max_length=254)
    role = models.CharField(max_length=12, choices=Role.choices)
    token_hash = models.BinaryField(max_length=32, unique=True)
    invited_by = models.ForeignKey(User, models.PROTECT, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[InvitationQuerySet] = InvitationQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "organization",
                Lower("email"),
                name="invitation_open_unique",
                condition=Q(accepted_at=None, revoked_at=None),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.email} to {self.organization}"

    def is_open(self, at: datetime) -> bool:
        """Whether it can still be accepted."""
        return self.accepted_at is None and self.revoked_at is None and at < self.expires_at
