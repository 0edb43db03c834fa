from typing import ClassVar

from django.db import models

from accounts.models.organization import Organization
from accounts.models.user import User
from core.tenancy import TenantQuerySet


class AuditEvent(models.Model):
    """Who did what, when: written by acts, never edited. `by` None is the system."""

    organization = models.ForeignKey(Organization, models.PROTECT, null=True, related_name="+")
    by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    action = models.CharField(max_length=60)
    target = models.CharField(max_length=80, blank=True)
    details = models.JSONField(default=dict)
    at = models.DateTimeField()

    objects: ClassVar[TenantQuerySet["AuditEvent"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        indexes = [models.Index(fields=["organization", "-at"], name="audit_organization_at")]

    def __str__(self) -> str:
        return f"{self.action} {self.target}"
