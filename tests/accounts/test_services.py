"""Acts on people, at every exit."""

from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core import mail

from accounts.models import AuditEvent, Invitation, Membership, Organization, Role, User
from accounts.queries import find_invitation, staff_addresses
from accounts.services import (
    AddressTaken,
    AlreadyMember,
    InvitationClosed,
    InvitationForAnother,
    LastOwner,
    accept_invitation,
    change_role,
    create_person,
    create_staff,
    invite_member,
    join_as_new_person,
    record_audit,
    remove_member,
    revoke_invitation,
    transfer_ownership,
)
from accounts.services import create_organization as create_organization_act
from core.clock import now
from core.errors import Forbidden, NotFound
from tests.cast import Cast, create_cast
from tests.factories import PASSWORD, create_membership, create_organization, create_user

pytestmark = pytest.mark.django_db
AT = now()


@pytest.fixture
def cast(usage_redis: Any) -> Cast:
    return create_cast()


def member(user: User, organization: Organization) -> Membership:
    return Membership.objects.get(user=user, organization=organization)


def invite(
    cast: Cast, email: str = "dora@example.com", *, role: str = Role.DEVELOPER, by: User | None = None
) -> Invitation:
    return invite_member(organization=cast.northwind, email=email, role=role, by=by or cast.alice, at=AT)


def actions(organization: Organization) -> list[str]:
    events = AuditEvent.objects.for_organization(organization).order_by("pk")
    return list(events.values_list("action", flat=True))


# --- people and organizations -------------------------------------------------------------------------------------


def test_audit_event_of_the_system_has_no_person() -> None:
    event = record_audit(organization=None, by=None, action="plan.published", target="starter 2", at=AT)
    assert (event.by, event.details, event.at) == (None, {}, AT)


def test_person_has_an_unconfirmed_main_address_in_lower_case() -> None:
    user = create_person(email=" Dora@Example.com", password=PASSWORD)
    address = EmailAddress.objects.get(user=user)
    assert (user.email, address.email) == ("dora@example.com",) * 2
    assert (address.primary, address.verified) == (True, False)
    assert user.check_password(PASSWORD)


def test_same_unconfirmed_address_may_stand_on_two_accounts() -> None:
    first = create_person(email="dora@example.com", password=PASSWORD)
    assert create_person(email="dora@example.com", password=PASSWORD).pk != first.pk


def test_confirmed_address_belongs_to_one_person() -> None:
    create_person(email="dora@example.com", password=PASSWORD, is_confirmed=True)
    with pytest.raises(AddressTaken):
        create_person(email="DORA@example.com", password=PASSWORD, is_confirmed=True)


def test_organization_has_its_owner_and_a_shard() -> None:
    alice = create_user()
    organization = create_organization_act(name=" Fabrikam ", owner=alice, at=AT)
    assert organization.name == "Fabrikam"
    assert 0 <= organization.shard < 64
    assert member(alice, organization).role == Role.OWNER
    assert actions(organization) == ["organization.created"]


def test_staff_account_is_told_of_customers() -> None:
    staff = create_staff(email="staff@farebox.example", password=PASSWORD)
    assert staff.is_staff
    assert staff_addresses() == ["staff@farebox.example"]


def test_named_staff_addresses_go_before_accounts(settings: Any) -> None:
    settings.STAFF_EMAILS = ["sales@farebox.example"]
    create_staff(email="staff@farebox.example", password=PASSWORD)
    assert staff_addresses() == ["sales@farebox.example"]


# --- invitations --------------------------------------------------------------------------------------------------


def test_invitation_is_mailed_and_only_its_hash_is_stored(
    cast: Cast, django_capture_on_commit_callbacks: Any, settings: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        invitation = invite(cast, "Dora@example.com")
    message = mail.outbox[-1]
    token = str(message.body).split(f"{settings.PORTAL_URL}/invitations/")[1].split("/")[0]
    assert message.to == ["dora@example.com"]
    assert token.encode() not in bytes(invitation.token_hash)
    assert find_invitation(token) == invitation
    assert invitation.expires_at == AT + timedelta(days=7)
    assert actions(cast.northwind)[-1] == "invitation.sent"


def test_second_invitation_withdraws_the_first(cast: Cast) -> None:
    first, second = invite(cast), invite(cast)
    first.refresh_from_db()
    assert not first.is_open(AT)
    assert second.is_open(AT)


def test_member_is_not_invited_again(cast: Cast) -> None:
    with pytest.raises(AlreadyMember):
        invite(cast, cast.bob.email)


@pytest.mark.parametrize("role", [Role.DEVELOPER, Role.BILLING])
def test_only_owners_and_admins_invite(cast: Cast, role: str) -> None:
    other = create_membership(organization=cast.northwind, role=role)
    with pytest.raises(Forbidden):
        invite(cast, by=other.user)


def test_stranger_does_not_invite(cast: Cast) -> None:
    with pytest.raises(Forbidden):
        invite(cast, by=cast.charlie)


def test_admin_invites_no_owner(cast: Cast) -> None:
    admin = create_membership(organization=cast.northwind, role=Role.ADMIN)
    assert invite(cast, by=admin.user).role == Role.DEVELOPER
    with pytest.raises(Forbidden):
        invite(cast, role=Role.OWNER, by=admin.user)


def test_accepted_invitation_makes_a_member(cast: Cast) -> None:
    dora = create_user("dora@example.com")
    membership = accept_invitation(invitation=invite(cast, role=Role.BILLING), user=dora, at=AT)
    assert (membership.organization, membership.role) == (cast.northwind, Role.BILLING)
    assert actions(cast.northwind)[-1] == "invitation.accepted"


def test_second_address_of_a_person_may_accept(cast: Cast) -> None:
    EmailAddress.objects.create(user=cast.charlie, email="dora@example.com")
    assert accept_invitation(invitation=invite(cast), user=cast.charlie, at=AT).user == cast.charlie


def test_invitation_for_another_address_is_refused(cast: Cast) -> None:
    with pytest.raises(InvitationForAnother):
        accept_invitation(invitation=invite(cast), user=cast.charlie, at=AT)


@pytest.mark.parametrize("ending", ["used", "revoked", "expired"])
def test_closed_invitation_is_refused(cast: Cast, ending: str) -> None:
    dora, invitation, at = create_user("dora@example.com"), invite(cast), AT
    if ending == "used":
        accept_invitation(invitation=invitation, user=dora, at=AT)
    elif ending == "revoked":
        revoke_invitation(invitation=invitation, by=cast.alice, at=AT)
    else:
        at = invitation.expires_at
    with pytest.raises(InvitationClosed):
        accept_invitation(invitation=invitation, user=dora, at=at)


def test_member_who_accepts_keeps_the_role(cast: Cast) -> None:
    invitation = invite(cast, role=Role.BILLING)
    dora = create_membership(
        organization=cast.northwind, user=create_user("dora@example.com"), role=Role.ADMIN
    )
    assert accept_invitation(invitation=invitation, user=dora.user, at=AT).role == Role.ADMIN


def test_new_person_joins_with_a_confirmed_address_and_no_organization_of_their_own(cast: Cast) -> None:
    dora = join_as_new_person(invitation=invite(cast), password=PASSWORD, at=AT)
    assert EmailAddress.objects.get(user=dora).verified
    assert list(Organization.objects.of_member(dora)) == [cast.northwind]


def test_new_person_is_not_made_for_an_address_that_is_confirmed_elsewhere(cast: Cast) -> None:
    create_person(email="dora@example.com", password=PASSWORD, is_confirmed=True)
    with pytest.raises(AddressTaken):
        join_as_new_person(invitation=invite(cast), password=PASSWORD, at=AT)


def test_new_person_is_not_made_for_a_closed_invitation(cast: Cast) -> None:
    invitation = invite(cast)
    with pytest.raises(InvitationClosed):
        join_as_new_person(invitation=invitation, password=PASSWORD, at=invitation.expires_at)
    assert not User.objects.filter(email="dora@example.com").exists()


def test_developer_withdraws_no_invitation(cast: Cast) -> None:
    with pytest.raises(Forbidden):
        revoke_invitation(invitation=invite(cast), by=cast.bob, at=AT)


def test_invitation_is_withdrawn_once(cast: Cast) -> None:
    invitation = invite(cast)
    revoke_invitation(invitation=invitation, by=cast.alice, at=AT)
    with pytest.raises(InvitationClosed):
        revoke_invitation(invitation=invitation, by=cast.alice, at=AT)


# --- roles --------------------------------------------------------------------------------------------------------


def test_owner_changes_a_role(cast: Cast) -> None:
    bob = change_role(membership=member(cast.bob, cast.northwind), role=Role.ADMIN, by=cast.alice, at=AT)
    event = AuditEvent.objects.for_organization(cast.northwind).latest("pk")
    assert bob.role == Role.ADMIN
    assert (event.action, event.details["old"]) == ("member.role_changed", "developer")


def test_same_role_changes_nothing(cast: Cast) -> None:
    before = actions(cast.northwind)
    change_role(membership=member(cast.bob, cast.northwind), role=Role.DEVELOPER, by=cast.alice, at=AT)
    assert actions(cast.northwind) == before


def test_developer_changes_no_role(cast: Cast) -> None:
    with pytest.raises(Forbidden):
        change_role(membership=member(cast.bob, cast.northwind), role=Role.ADMIN, by=cast.bob, at=AT)


def test_admin_neither_makes_nor_unmakes_owners(cast: Cast) -> None:
    admin = create_membership(organization=cast.northwind, role=Role.ADMIN)
    for target, role in ((cast.bob, Role.OWNER), (cast.alice, Role.BILLING)):
        with pytest.raises(Forbidden):
            change_role(membership=member(target, cast.northwind), role=role, by=admin.user, at=AT)


def test_last_owner_stays_owner(cast: Cast) -> None:
    with pytest.raises(LastOwner):
        change_role(membership=member(cast.alice, cast.northwind), role=Role.ADMIN, by=cast.alice, at=AT)


def test_one_of_two_owners_may_step_back(cast: Cast) -> None:
    create_membership(organization=cast.northwind, role=Role.OWNER)
    alice = change_role(membership=member(cast.alice, cast.northwind), role=Role.ADMIN, by=cast.alice, at=AT)
    assert alice.role == Role.ADMIN


def test_member_is_removed(cast: Cast) -> None:
    remove_member(membership=member(cast.bob, cast.northwind), by=cast.alice, at=AT)
    assert not Organization.objects.of_member(cast.bob).exists()
    assert actions(cast.northwind)[-1] == "member.removed"


def test_member_may_leave(cast: Cast) -> None:
    remove_member(membership=member(cast.bob, cast.northwind), by=cast.bob, at=AT)
    assert not Organization.objects.of_member(cast.bob).exists()


def test_last_owner_cannot_leave(cast: Cast) -> None:
    with pytest.raises(LastOwner):
        remove_member(membership=member(cast.alice, cast.northwind), by=cast.alice, at=AT)


def test_developer_and_stranger_remove_nobody(cast: Cast) -> None:
    dora = create_membership(organization=cast.northwind)
    for by in (cast.bob, cast.charlie):
        with pytest.raises(Forbidden):
            remove_member(membership=dora, by=by, at=AT)


def test_admin_removes_no_owner(cast: Cast) -> None:
    admin = create_membership(organization=cast.northwind, role=Role.ADMIN)
    create_membership(organization=cast.northwind, role=Role.OWNER)
    with pytest.raises(Forbidden):
        remove_member(membership=member(cast.alice, cast.northwind), by=admin.user, at=AT)


def test_removed_member_cannot_be_changed_by_an_old_page(cast: Cast) -> None:
    bob = member(cast.bob, cast.northwind)
    remove_member(membership=member(cast.bob, cast.northwind), by=cast.alice, at=AT)
    with pytest.raises(NotFound):
        change_role(membership=bob, role=Role.ADMIN, by=cast.alice, at=AT)


def test_ownership_passes_and_the_giver_stays_as_admin(cast: Cast) -> None:
    transfer_ownership(to=member(cast.bob, cast.northwind), by=cast.alice, at=AT)
    assert member(cast.bob, cast.northwind).role == Role.OWNER
    assert member(cast.alice, cast.northwind).role == Role.ADMIN
    assert actions(cast.northwind)[-1] == "organization.ownership_transferred"


def test_only_an_owner_hands_over(cast: Cast) -> None:
    admin = create_membership(organization=cast.northwind, role=Role.ADMIN)
    for by in (admin.user, cast.bob, cast.charlie):
        with pytest.raises(Forbidden):
            transfer_ownership(to=member(cast.bob, cast.northwind), by=by, at=AT)


def test_ownership_does_not_pass_to_an_owner(cast: Cast) -> None:
    with pytest.raises(AlreadyMember):
        transfer_ownership(to=member(cast.alice, cast.northwind), by=cast.alice, at=AT)


def test_owner_of_one_organization_is_a_stranger_to_another(cast: Cast) -> None:
    assert create_organization(owner=cast.alice).pk != cast.contoso.pk
    with pytest.raises(Forbidden):
        transfer_ownership(to=member(cast.charlie, cast.contoso), by=cast.alice, at=AT)
