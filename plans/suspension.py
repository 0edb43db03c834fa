"""Closing and opening an organization's door by hand."""

from datetime import datetime

from django.db import transaction

from accounts.models import Organization, OrganizationStatus, User
from accounts.permissions import check_can_suspend
from accounts.services import record_audit
from plans.versions import raise_version


@transaction.atomic
def suspend_organization(
    *, organization: Organization, reason: str, by: User | None, at: datetime
) -> Organization:
    """Close the door by hand: 402 `suspended` from the next call on. Raises Forbidden."""
    return _set_status(organization, OrganizationStatus.SUSPENDED, reason, by, at)


@transaction.atomic
def reactivate_organization(*, organization: Organization, by: User | None, at: datetime) -> Organization:
    """Open the door again. Raises Forbidden."""
    return _set_status(organization, OrganizationStatus.ACTIVE, "", by, at)


def _set_status(
    organization: Organization, status: OrganizationStatus, reason: str, by: User | None, at: datetime
) -> Organization:
    check_can_suspend(by)
    organization.status, organization.status_reason = status, reason
    organization.save(update_fields=["status", "status_reason"])
    raise_version(organization)
    record_audit(
        organization=organization, by=by, action=f"organization.{status.value}",
        target=organization.public_id, at=at, details={"reason": reason},
    )  # fmt: skip
    return organization
