"""Acts on people: organizations, members, roles, invitations. Each leaves an audit event."""

import secrets
from datetime import datetime, timedelta

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.urls import reverse

from accounts.invitation_links import make_token, token_hash
from accounts.mail import queue_mail
from accounts.models import AuditEvent, Invitation, Membership, Organization, Role, User
from accounts.models.organization import SHARDS
from accounts.permissions import check_can_deal_with_role, check_can_manage_team, check_can_own
from core.errors import PortalError


class AlreadyMember(PortalError):
    code, status, title = "already_member", 409, "This person is a member already"


class InvitationClosed(PortalError):
    code, status = "invitation_closed", 410
    title = "This invitation was used, withdrawn or has expired. Ask for a new one"


class InvitationForAnother(PortalError):
    code, status = "invitation_for_another", 403
    title = "This invitation was sent to another address. Sign in with that one"


class LastOwner(PortalError):
    code, status = "last_owner", 409
    title = "An organization needs an owner. Make somebody else owner first"


class AddressTaken(PortalError):
    code, status = "address_taken", 409
    title = "There is an account with this address already. Sign in, then open the invitation again"


def record_audit(
    *,
    organization: Organization | None,
    by: User | None,
    action: str,
    target: str,
    at: datetime,
    details: dict[str, object] | None = None,
) -> AuditEvent:
    """Write down who did what; `by` None is the system. Details must hold no secret."""
    return AuditEvent.objects.create(
        organization=organization, by=by, action=action, target=target, at=at, details=details or {}
    )


@transaction.atomic
def create_person(*, email: str, password: str, is_confirmed: bool = False, name: str = "") -> User:
    """An account and its address. Raises AddressTaken when it shall be confirmed and somebody else has confirmed it.

    An unconfirmed address may stand on several accounts; see accounts/backends.py.
    """
    email = email.strip().lower()
    if is_confirmed and EmailAddress.objects.filter(email=email, verified=True).exists():
        raise AddressTaken(field="email")
    user = User.objects.create_user(email, password, name=name)
    EmailAddress.objects.create(user=user, email=user.email, verified=is_confirmed, primary=True)
    return user


@transaction.atomic
def create_staff(*, email: str, password: str, name: str = "") -> User:
    """An account of the owner's staff, with a confirmed address and the admin's rights. Raises AddressTaken."""
    user = create_person(email=email, password=password, is_confirmed=True, name=name)
    user.is_staff = user.is_superuser = True
    user.save(update_fields=["is_staff", "is_superuser"])
    return user


@transaction.atomic
def create_organization(
    *, name: str, owner: User | None, at: datetime, by: User | None = None
) -> Organization:  # fmt: skip
    """An organization with its first owner (without one, `by` made it for somebody who will be invited), on a random
    shard; without a plan (keys/onboarding.py adds one)."""
    organization = Organization.objects.create(
        name=name.strip(), shard=secrets.randbelow(SHARDS), created_at=at
    )
    if owner is not None:
        Membership.objects.create(organization=organization, user=owner, role=Role.OWNER, created_at=at)
    record_audit(
        organization=organization, by=owner or by, action="organization.created", target=organization.public_id, at=at
    )  # fmt: skip
    return organization


@transaction.atomic
def invite_member(
    *, organization: Organization, email: str, role: str, by: User | None, at: datetime
) -> Invitation:
    """Send an invitation; one that was still open for this address is withdrawn. Raises Forbidden or AlreadyMember."""
    organization = _locked(organization)
    check_can_deal_with_role(by, organization, role)
    email = email.strip().lower()
    if _has_member(organization, email):
        raise AlreadyMember(field="email")
    invitations = Invitation.objects.for_organization(organization)
    invitations.pending().filter(email__iexact=email).update(revoked_at=at)
    token = make_token()
    invitation = Invitation.objects.create(
        organization=organization,
        email=email,
        role=Role(role),
        token_hash=token_hash(token),
        invited_by=by,
        created_at=at,
        expires_at=at + timedelta(days=settings.INVITATION_DAYS),
    )
    _audit_invitation(invitation, "invitation.sent", by, at)
    _mail_invitation(invitation, token)
    return invitation


@transaction.atomic
def accept_invitation(*, invitation: Invitation, user: User, at: datetime) -> Membership:
    """Join; a member keeps the role held already. Raises InvitationClosed, InvitationForAnother."""
    organization = _locked(invitation.organization)
    invitation = Invitation.objects.for_organization(organization).select_for_update().get(pk=invitation.pk)
    if not invitation.is_open(at):
        raise InvitationClosed
    if not has_address(user, invitation.email):
        raise InvitationForAnother
    invitation.accepted_at = at
    invitation.save(update_fields=["accepted_at"])
    membership, _ = Membership.objects.get_or_create(
        organization=organization, user=user, defaults={"role": invitation.role, "created_at": at}
    )
    _audit_invitation(invitation, "invitation.accepted", user, at)
    return membership


@transaction.atomic
def join_as_new_person(*, invitation: Invitation, password: str, at: datetime) -> User:
    """An account for the invited address, and the membership. Its link came by mail, so the address counts as confirmed.

    Raises AddressTaken or InvitationClosed.
    """
    user = create_person(email=invitation.email, password=password, is_confirmed=True)
    accept_invitation(invitation=invitation, user=user, at=at)
    return user


@transaction.atomic
def revoke_invitation(*, invitation: Invitation, by: User | None, at: datetime) -> None:
    """Withdraw an invitation: its link stops working. Raises Forbidden, or InvitationClosed when it was accepted."""
    check_can_manage_team(by, invitation.organization)
    pending = Invitation.objects.for_organization(invitation.organization).pending()
    if not pending.filter(pk=invitation.pk).update(revoked_at=at):
        raise InvitationClosed("This invitation was accepted or withdrawn already.")
    _audit_invitation(invitation, "invitation.revoked", by, at)


@transaction.atomic
def change_role(*, membership: Membership, role: str, by: User | None, at: datetime) -> Membership:
    """Give a member another role. Only owners make or unmake owners. Raises Forbidden or LastOwner."""
    membership = _locked_membership(membership)
    old = membership.role
    check_can_deal_with_role(by, membership.organization, role, old)
    if role == old:
        return membership
    if old == Role.OWNER:
        _check_other_owner(membership)
    membership.role = Role(role)
    membership.save(update_fields=["role"])
    _audit_member(membership, "member.role_changed", by, at, old=old)
    return membership


@transaction.atomic
def remove_member(*, membership: Membership, by: User | None, at: datetime) -> None:
    """Take a member out, or leave (by oneself). Keys that the person made go on. Raises Forbidden or LastOwner."""
    membership = _locked_membership(membership)
    if by is None or by.pk != membership.user_id:
        check_can_deal_with_role(by, membership.organization, membership.role)
    if membership.role == Role.OWNER:
        _check_other_owner(membership)
    _audit_member(membership, "member.removed", by, at)
    membership.delete()


@transaction.atomic
def transfer_ownership(*, to: Membership, by: User, at: datetime) -> Membership:
    """Hand the organization to another member; the one who gives it becomes admin. Raises Forbidden or AlreadyMember."""
    to = _locked_membership(to)
    check_can_own(by, to.organization)
    if to.user_id == by.pk or to.role == Role.OWNER:
        raise AlreadyMember("This person is an owner already.", field="member")
    giver = Membership.objects.for_organization(to.organization).get(user=by)
    to.role, giver.role = Role.OWNER, Role.ADMIN
    to.save(update_fields=["role"])
    giver.save(update_fields=["role"])
    _audit_member(to, "organization.ownership_transferred", by, at)
    return to


def has_address(user: User, email: str) -> bool:
    """Whether this is one of the person's addresses, confirmed or not."""
    addresses = EmailAddress.objects.filter(user=user, email__iexact=email)
    return user.email.lower() == email.lower() or addresses.exists()


def _has_member(organization: Organization, email: str) -> bool:
    members = Membership.objects.for_organization(organization)
    holders = EmailAddress.objects.filter(email=email).values("user_id")
    return members.filter(Q(user__email=email) | Q(user_id__in=holders)).exists()


def _locked(organization: Organization) -> Organization:
    """Acts on a team wait for each other: two owners may not leave at the same moment."""
    return Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)


def _locked_membership(membership: Membership) -> Membership:
    organization = _locked(membership.organization)
    rows = Membership.objects.for_organization(organization).select_related("organization", "user")
    return rows.get_or_404(pk=membership.pk)


def _check_other_owner(membership: Membership) -> None:
    owners = Membership.objects.for_organization(membership.organization).filter(role=Role.OWNER)
    if not owners.exclude(pk=membership.pk).exists():
        raise LastOwner


def _mail_invitation(invitation: Invitation, token: str) -> None:
    link = settings.PORTAL_URL + reverse("dashboard:invitation-accept", args=[token])
    context = {
        "organization": invitation.organization,
        "invited_by": invitation.invited_by,
        "role": Role(invitation.role).label.lower(),
        "accept_url": link,
        "expires_at": invitation.expires_at,
    }
    queue_mail("invitation", to=[invitation.email], context=context)


def _audit_invitation(invitation: Invitation, action: str, by: User | None, at: datetime) -> None:
    record_audit(
        organization=invitation.organization, by=by, action=action, target=invitation.public_id, at=at,
        details={"email": invitation.email, "role": invitation.role},
    )  # fmt: skip


def _audit_member(
    membership: Membership, action: str, by: User | None, at: datetime, **details: object
) -> None:
    record_audit(
        organization=membership.organization, by=by, action=action, target=membership.public_id, at=at,
        details={"email": membership.user.email, "role": membership.role} | details,
    )  # fmt: skip
