"""People, their organizations and what they did."""

from accounts.models.audit import AuditEvent
from accounts.models.organization import (
    Invitation,
    Membership,
    Organization,
    OrganizationStatus,
    Role,
)
from accounts.models.staff_session import StaffSession
from accounts.models.user import User

__all__ = [
    "AuditEvent",
    "Invitation",
    "Membership",
    "Organization",
    "OrganizationStatus",
    "Role",
    "StaffSession",
    "User",
]
