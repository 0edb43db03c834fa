"""Team pages by real clients: happy path, refusal, other tenant (404), role (403), and the password asked again."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.test import Client

from accounts.models import Invitation, Membership, Organization, Role, User
from accounts.services import create_person, invite_member, revoke_invitation
from core.clock import now
from tests.cast import Cast, create_cast
from tests.eager import tasks_at_once
from tests.factories import PASSWORD, create_membership

pytestmark = pytest.mark.django_db(transaction=True)
INVITED = "dora@example.com"


@pytest.fixture(autouse=True)
def cast(usage_redis: Any) -> Iterator[Cast]:
    with tasks_at_once():
        yield create_cast()


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def proven(user: User) -> Client:
    """A client whose person typed the password a moment ago."""
    client = client_of(user)
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    return client


def member(user: User, organization: Organization) -> Membership:
    return Membership.objects.get(user=user, organization=organization)


def role_of(user: User, organization: Organization) -> str | None:
    return (
        Membership.objects.filter(user=user, organization=organization).values_list("role", flat=True).first()
    )


def invite(cast: Cast, email: str = INVITED) -> str:
    """Invite and return the path of the mailed link."""
    invite_member(organization=cast.northwind, email=email, role=Role.BILLING, by=cast.alice, at=now())
    found = re.search(r"(/invitations/\S+)", str(mail.outbox[-1].body))
    assert found is not None
    return found[1]


# --- the list -----------------------------------------------------------------------------------------------------


def test_team_lists_members_and_offers_what_the_role_allows(cast: Cast) -> None:
    page = client_of(cast.alice).get("/team/").content.decode()
    assert cast.bob.email in page
    assert cast.charlie.email not in page
    assert "Send invitation" in page
    assert "Transfer ownership" in page


def test_developer_reads_the_team_and_may_only_leave(cast: Cast) -> None:
    page = client_of(cast.bob).get("/team/").content.decode()
    assert cast.alice.email in page
    assert "Send invitation" not in page
    assert "Leave this organization" in page
    assert "Remove" not in page


def test_team_page_costs_the_same_for_two_and_for_twelve(cast: Cast, django_assert_num_queries: Any) -> None:
    client = client_of(cast.alice)
    client.get("/team/")
    for _ in range(10):
        create_membership(organization=cast.northwind)
    # session, person, current membership, members, invitations, the switcher, the door, confirmed address
    with django_assert_num_queries(8):
        client.get("/team/")


def test_stranger_signs_in_first(client: Client) -> None:
    assert client.get("/team/").headers["Location"] == "/accounts/login/?next=/team/"


# --- invitations --------------------------------------------------------------------------------------------------


def test_invitation_is_sent_and_listed(cast: Cast) -> None:
    client = client_of(cast.alice)
    answer = client.post("/team/invitations/", {"email": INVITED, "role": "billing"})
    assert answer.headers["Location"] == "/team/"
    assert mail.outbox[-1].to == [INVITED]
    assert INVITED in client.get("/team/").content.decode()


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"email": "nonsense", "role": "billing"}, "valid email address"),
        ({"email": INVITED, "role": "king"}, "Select a valid choice"),
        ({"email": "bob@northwind.example", "role": "billing"}, "member already"),
    ],
)
def test_refused_invitation_says_why_in_the_form(cast: Cast, sent: dict[str, str], told: str) -> None:
    answer = client_of(cast.alice).post("/team/invitations/", sent)
    assert answer.status_code == 422
    assert told in answer.content.decode()
    assert not Invitation.objects.exists()


def test_developer_invites_nobody(cast: Cast) -> None:
    answer = client_of(cast.bob).post("/team/invitations/", {"email": INVITED, "role": "billing"})
    assert answer.status_code == 403
    assert not Invitation.objects.exists()


def test_invitations_are_limited(cast: Cast) -> None:
    client = client_of(cast.alice)
    answers = [
        client.post("/team/invitations/", {"email": f"p{n}@example.com", "role": "billing"}).status_code
        for n in range(31)
    ]
    assert answers == [302] * 30 + [429]


def test_invitation_is_withdrawn(cast: Cast) -> None:
    path = invite(cast)
    invitation = Invitation.objects.get()
    client_of(cast.alice).post(f"/team/invitations/{invitation.public_id}/revoke/")
    answer = Client().get(path)
    assert answer.status_code == 410
    assert "no longer works" in answer.content.decode()


def test_foreign_invitation_looks_missing(cast: Cast) -> None:
    invite(cast)
    invitation = Invitation.objects.get()
    assert (
        client_of(cast.charlie).post(f"/team/invitations/{invitation.public_id}/revoke/").status_code == 404
    )
    assert client_of(cast.bob).post(f"/team/invitations/{invitation.public_id}/revoke/").status_code == 403
    assert Invitation.objects.pending().exists()


def test_unknown_link_looks_missing(client: Client) -> None:
    assert client.get("/invitations/guessed/").status_code == 404


def test_new_person_joins_through_sign_up_without_another_organization(cast: Cast, client: Client) -> None:
    path = invite(cast)
    page = client.get(path).content.decode()
    sign_up = re.search(r'href="(/accounts/signup/\?invitation=[^"]+)"', page)
    assert sign_up is not None
    form = client.get(sign_up[1]).content.decode()
    assert "Join Northwind Maps" in form
    assert "organization_name" not in form
    invitation = Invitation.objects.get().public_id
    sent = {"email": "evil@example.com", "password1": PASSWORD, "invitation": invitation}
    answer = client.post("/accounts/signup/", sent)
    dora = User.objects.get(email=INVITED)
    assert answer.status_code == 302
    assert list(Organization.objects.of_member(dora)) == [cast.northwind]
    assert role_of(dora, cast.northwind) == Role.BILLING
    assert EmailAddress.objects.get(user=dora).verified
    assert "Northwind Maps" in client.get("/team/").content.decode()
    assert not User.objects.filter(email="evil@example.com").exists()


def test_id_of_an_invitation_opens_nothing_without_its_link(cast: Cast, client: Client) -> None:
    invite(cast)
    sent = {"password1": PASSWORD, "invitation": Invitation.objects.get().public_id}
    assert client.post("/accounts/signup/", sent).status_code == 422
    assert not User.objects.filter(email=INVITED).exists()


def test_invited_address_with_an_account_is_told_to_sign_in(cast: Cast, client: Client) -> None:
    create_person(email=INVITED, password=PASSWORD, is_confirmed=True)
    client.get(invite(cast))
    sent = {"password1": PASSWORD, "invitation": Invitation.objects.get().public_id}
    answer = client.post("/accounts/signup/", sent)
    assert answer.status_code == 422
    assert "account with this address already" in answer.content.decode()


def test_withdrawn_invitation_is_refused_at_sign_up(cast: Cast, client: Client) -> None:
    client.get(invite(cast))
    invitation = Invitation.objects.get()
    revoke_invitation(invitation=invitation, by=cast.alice, at=now())
    answer = client.post("/accounts/signup/", {"password1": PASSWORD, "invitation": invitation.public_id})
    assert answer.status_code == 422
    assert not User.objects.filter(email=INVITED).exists()


def test_person_with_an_account_joins_with_one_click_and_sees_the_new_organization(cast: Cast) -> None:
    path = invite(cast, cast.charlie.email)
    client = client_of(cast.charlie)
    assert "Join Northwind Maps" in client.get(path).content.decode()
    assert client.post(path).headers["Location"] == "/usage/"
    assert cast.alice.email in client.get("/team/").content.decode()


def test_link_opened_by_another_person_joins_nobody(cast: Cast) -> None:
    path = invite(cast)
    client = client_of(cast.charlie)
    assert "for somebody else" in client.get(path).content.decode()
    assert client.post(path).status_code == 403
    assert role_of(cast.charlie, cast.northwind) is None


# --- sensitive acts -----------------------------------------------------------------------------------------------


def sensitive(cast: Cast) -> dict[str, dict[str, str]]:
    bob = member(cast.bob, cast.northwind).public_id
    return {
        f"/team/{bob}/role/": {"role": "billing"},
        f"/team/{bob}/remove/": {},
        "/team/ownership/": {"member": bob},
    }


@pytest.mark.parametrize("number", [0, 1, 2])
def test_sensitive_act_asks_for_the_password_and_is_then_carried_out(cast: Cast, number: int) -> None:
    path, sent = list(sensitive(cast).items())[number]
    client = client_of(cast.alice)
    asked = client.post(path, sent)
    assert asked.headers["Location"] == f"/accounts/reauthenticate/?next={path.replace('/', '%2F')}"
    assert role_of(cast.bob, cast.northwind) == Role.DEVELOPER
    done = client.post(asked.headers["Location"], {"password": PASSWORD})
    assert done.headers["Location"] == "/team/"
    assert role_of(cast.bob, cast.northwind) == [Role.BILLING, None, Role.OWNER][number]


def test_wrong_password_changes_nothing(cast: Cast) -> None:
    path, sent = next(iter(sensitive(cast).items()))
    client = client_of(cast.alice)
    asked = client.post(path, sent)
    assert client.post(asked.headers["Location"], {"password": "wrong"}).status_code == 200
    assert role_of(cast.bob, cast.northwind) == Role.DEVELOPER


@pytest.mark.parametrize("number", [0, 1, 2])
def test_foreign_member_looks_missing(cast: Cast, number: int) -> None:
    path, sent = list(sensitive(cast).items())[number]
    assert proven(cast.charlie).post(path, sent).status_code == 404
    assert role_of(cast.bob, cast.northwind) == Role.DEVELOPER


@pytest.mark.parametrize("number", [0, 2])
def test_developer_is_refused(cast: Cast, number: int) -> None:
    path, sent = list(sensitive(cast).items())[number]
    assert proven(cast.bob).post(path, sent).status_code == 403


def test_developer_removes_nobody_else(cast: Cast) -> None:
    alice = member(cast.alice, cast.northwind)
    assert proven(cast.bob).post(f"/team/{alice.public_id}/remove/").status_code == 403


def test_admin_cannot_make_an_owner(cast: Cast) -> None:
    admin = create_membership(organization=cast.northwind, role=Role.ADMIN).user
    bob = member(cast.bob, cast.northwind)
    proven(admin).post(f"/team/{bob.public_id}/role/", {"role": "owner"})
    assert role_of(cast.bob, cast.northwind) == Role.DEVELOPER


def test_unknown_role_changes_nothing(cast: Cast) -> None:
    bob = member(cast.bob, cast.northwind)
    page = proven(cast.alice).post(f"/team/{bob.public_id}/role/", {"role": "king"}, follow=True)
    assert "no such role" in page.content.decode()
    assert role_of(cast.bob, cast.northwind) == Role.DEVELOPER


def test_last_owner_cannot_leave(cast: Cast) -> None:
    alice = member(cast.alice, cast.northwind)
    answer = proven(cast.alice).post(f"/team/{alice.public_id}/remove/")
    assert answer.status_code == 409
    assert "needs an owner" in answer.content.decode()


def test_member_leaves(cast: Cast) -> None:
    client = proven(cast.bob)
    bob = member(cast.bob, cast.northwind)
    assert client.post(f"/team/{bob.public_id}/remove/").headers["Location"] == "/"
    assert client.get("/team/").headers["Location"] == "/organizations/new/"


def test_address_of_a_sensitive_act_can_be_opened(cast: Cast) -> None:
    for path in sensitive(cast):
        assert client_of(cast.alice).get(path).headers["Location"] == "/team/"
