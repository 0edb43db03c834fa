"""Reads about people."""

from django.conf import settings

from accounts.invitation_links import token_hash
from accounts.models import Invitation, Membership, Organization, User


def list_members(organization: Organization) -> list[Membership]:
    """Members with their accounts, in the order in which they joined: one query."""
    members = Membership.objects.for_organization(organization).select_related("user")
    return list(members.order_by("created_at", "pk"))


def list_pending_invitations(organization: Organization) -> list[Invitation]:
    """Invitations that were neither accepted nor withdrawn, newest first; some may have expired."""
    pending = Invitation.objects.for_organization(organization).pending()
    return list(pending.select_related("invited_by").order_by("-created_at"))


def find_invitation(token: str) -> Invitation | None:
    """The invitation that this link's secret opens, in any state."""
    invitations = Invitation.objects.select_related("organization", "invited_by")
    return invitations.filter(token_hash=token_hash(token), organization__archived_at=None).first()


def has_confirmed_address(user: User) -> bool:
    """Live keys and payments wait for this: an invoice has to reach somebody."""
    return user.emailaddress_set.filter(verified=True).exists()


def staff_addresses() -> list[str]:
    """Who is told of new customers: FAREBOX_STAFF_EMAILS, else everybody who is staff."""
    staff = User.objects.filter(is_staff=True, is_active=True).exclude(email="")
    return settings.STAFF_EMAILS or list(staff.order_by("pk").values_list("email", flat=True))
