"""Every URL of portal and API, tried by strangers. A URL that this walk does not know fails it.

A foreign id answers like a missing one (404); a role of the same organization that may not is told so (403); pages
without ids show nothing of another organization.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from allauth.account.models import EmailAddress
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from accounts.models import Invitation, Membership, Role, User
from accounts.services import invite_member
from billing.models import Statement
from core.clock import now
from keys.models import ApiKey, OwnerKey
from metering.alerts.services import ensure_defaults
from metering.models import Alert
from tests.cast import Cast, create_cast
from tests.factories import PASSWORD, create_key, create_membership, create_statement, create_user

# For everybody, signed in or not; nothing of a tenant is on them.
PUBLIC = {
    "dashboard:landing", "dashboard:pricing", "dashboard:error-docs", "api-schema", "api-docs", "api-schema-slash", "api-docs-slash",
    "account_signup", "account_login", "account_logout", "account_inactive", "account_reauthenticate", "account_email",
    "account_email_verification_sent", "account_change_password", "account_set_password", "account_reset_password",
    "account_confirm_login_code", "account_confirm_email", "account_reset_password_from_key_done",
    "account_reset_password_from_key", "account_reset_password_done",
    # The second step of the reader's own account, after signing in: tests/accounts/test_second_factor.py.
    "mfa_index", "mfa_authenticate", "mfa_reauthenticate", "mfa_activate_totp", "mfa_deactivate_totp",
    "mfa_view_recovery_codes", "mfa_generate_recovery_codes", "mfa_download_recovery_codes",
}  # fmt: skip
# Opened by a secret in the address (hashed in the database), or there only where mails are kept (development).
BY_SECRET = {"dashboard:invitation-accept"}
DEVELOPMENT = {"dashboard:mailbox", "dashboard:mailbox-message"}
STAFF = {
    "dashboard:staff-overview", "dashboard:staff-revenue", "dashboard:staff-revenue-csv",
    "dashboard:staff-margins", "dashboard:staff-margins-csv",
    "dashboard:staff-correct", "dashboard:staff-unpaid", "dashboard:staff-customer-billing",
    "dashboard:staff-credit-grant", "dashboard:staff-document", "dashboard:staff-document-pdf", "dashboard:staff-document-csv",
    "dashboard:staff-document-act", "dashboard:staff-line", "dashboard:staff-line-hours", "dashboard:staff-line-calls",
    "dashboard:staff-call-find", "dashboard:staff-simulator", "dashboard:staff-simulation",
    "dashboard:staff-simulation-csv", "dashboard:staff-simulation-again",
    "dashboard:staff-month-end", "dashboard:staff-grace-end", "dashboard:staff-stripe-usage", "dashboard:staff-stripe-usage-again",
    "dashboard:staff-stripe-findings", "dashboard:staff-stripe-finding", "dashboard:staff-stripe-finding-again",
}  # fmt: skip
# Keys decide who calls; they have tests of their own (tests/metering/test_api.py, test_drf.py).
BY_KEY = {
    "api-account",
    "api-track",
    "api-correct",
    "api-statements",
    "api-statement",
    "api-revenue",
    "api-report",
    "api-alerts",
    "api-alert",
    "api-aggregate",
    # Staff's tokens and owner keys with the scope: tests/billing/test_tenant_api.py, tests/accounts/test_auth_api.py.
    "api-tenants",
    "api-tenant",
    "api-tenant-usage",
    "api-tenant-keys",
    "api-tenant-key",
    "api-tenant-key-rotate",
    "api-sign-in",
    "api-refresh",
    "api-sign-out",
    "stripe-webhook",  # by its signature: tests/billing/stripe/test_webhooks.py
    "api-places-search",
    "api-places-reverse",
}
# The reader's own organization, from the session: no id in the address.
OWN = {
    "dashboard:usage", "dashboard:call-list", "dashboard:key-list", "dashboard:key-create", "dashboard:quick-start",
    "dashboard:plan", "dashboard:plan-cancel", "dashboard:plan-keep", "dashboard:onboarding", "dashboard:team",
    "dashboard:organization-create", "dashboard:organization-switch", "dashboard:ownership-transfer",
    "dashboard:invitation-create", "dashboard:plan-change", "dashboard:alerts", "dashboard:cap-set", "dashboard:cap-remove",
    "dashboard:alert-history", "dashboard:alert-create", "dashboard:alert-webhook",
    "dashboard:invoice-list", "dashboard:invoice-upcoming", "dashboard:credit", "dashboard:billing-account",
    "dashboard:call-find",
    "dashboard:plan-pay", "dashboard:payment-return", "dashboard:payment-portal", "dashboard:upgrade-confirm",
    "dashboard:upgrade-drop",
}  # fmt: skip
BY_ID = {
    "dashboard:alert-edit", "dashboard:alert-remove", "dashboard:alert-test", "dashboard:alert-lift", "dashboard:alert-mail",
    "dashboard:key-rotate", "dashboard:key-revoke", "dashboard:invitation-revoke", "dashboard:member-role",
    "dashboard:member-remove", "dashboard:invoice", "dashboard:invoice-pdf", "dashboard:invoice-csv",
    "dashboard:invoice-use-credit", "dashboard:invoice-line", "dashboard:invoice-line-hours", "dashboard:invoice-line-calls",
}  # fmt: skip
# Documents are for those who pay.
PAYERS_ONLY = {
    "dashboard:invoice-list", "dashboard:invoice-upcoming", "dashboard:credit", "dashboard:billing-account",
    "dashboard:invoice", "dashboard:invoice-pdf", "dashboard:invoice-csv", "dashboard:invoice-line",
    "dashboard:invoice-line-hours", "dashboard:invoice-line-calls",
}  # fmt: skip
# What a billing member and a developer of the same organization may not do.
NOT_FOR_BILLING = {"dashboard:key-create", "dashboard:key-rotate", "dashboard:key-revoke"}
NOT_FOR_DEVELOPERS = {
    "dashboard:alert-create", "dashboard:alert-webhook", "dashboard:alert-edit", "dashboard:alert-remove", "dashboard:alert-test",
    "dashboard:alert-lift",
    "dashboard:plan-change", "dashboard:plan-cancel", "dashboard:plan-keep", "dashboard:invitation-create",
    "dashboard:invitation-revoke", "dashboard:member-role", "dashboard:member-remove", "dashboard:ownership-transfer",
    "dashboard:cap-set", "dashboard:cap-remove", "dashboard:invoice-use-credit", "dashboard:upgrade-confirm",
    "dashboard:upgrade-drop",
}  # fmt: skip

pytestmark = pytest.mark.django_db


@dataclass(frozen=True, slots=True)
class World:
    """Northwind with everything that has an id, and people who look at it."""

    cast: Cast
    key: ApiKey
    invitation: Invitation
    membership: Membership
    statement: Statement
    alert: Alert

    def address(self, name: str) -> str:
        """The address of one of Northwind's things."""
        documents = {
            f"dashboard:{name}": self.statement.public_id
            for name in (
                "invoice", "invoice-pdf", "invoice-csv", "invoice-use-credit", "staff-document", "staff-document-pdf",
                "staff-document-csv",
            )
        }  # fmt: skip
        if name == "dashboard:staff-document-act":
            return reverse(name, args=[self.statement.public_id, "void"])
        if name.startswith("dashboard:staff-simulation"):
            return reverse(name, args=["sim_of_nobody"])  # who is no staff gets no further than the door
        if name == "dashboard:staff-stripe-usage-again":
            return reverse(name, args=["farebox-northwind-1"])
        if name.startswith("dashboard:staff-stripe-finding") and not name.endswith("s"):
            return reverse(name, args=["fnd_of_nobody"])
        if "-line" in name:
            return reverse(name, args=[self.statement.public_id, 1])
        ids = documents | {
            "dashboard:staff-customer-billing": self.cast.northwind.public_id,
            "dashboard:staff-margins-csv": "plan",
            "dashboard:staff-month-end": self.cast.northwind.public_id,
            "dashboard:staff-grace-end": self.cast.northwind.public_id,
            "dashboard:staff-credit-grant": self.cast.northwind.public_id,
            "dashboard:key-rotate": self.key.public_id,
            "dashboard:key-revoke": self.key.public_id,
            "dashboard:invitation-revoke": self.invitation.public_id,
            "dashboard:member-role": self.membership.public_id,
            "dashboard:member-remove": self.membership.public_id,
            "dashboard:plan-change": "professional",
            **{
                f"dashboard:alert-{act}": self.alert.public_id
                for act in ("edit", "remove", "test", "lift", "mail")
            },
        }
        return reverse(name, args=[ids[name]] if name in ids else [])

    @property
    def marks(self) -> list[str]:
        """Texts that only Northwind's people may read."""
        return [
            "Northwind", self.key.name, self.key.public_id, self.key.last4, "alice@northwind.example", "Bob Lind",
            "invited@northwind.example", self.cast.northwind.public_id, self.statement.number, self.statement.public_id,
            self.alert.public_id,
        ]  # fmt: skip


@pytest.fixture
def world() -> World:
    cast = create_cast()
    key = create_key(organization=cast.northwind, name="northwind-secret-name").key
    invitation = invite_member(
        organization=cast.northwind, email="invited@northwind.example", role=Role.DEVELOPER, by=cast.alice, at=now()
    )  # fmt: skip
    member = create_membership(organization=cast.northwind, user=create_user("eve@northwind.example"))
    ensure_defaults(cast.northwind, at=now())
    alert = Alert.objects.for_organization(cast.northwind).earliest("pk")
    return World(cast, key, invitation, member, create_statement(cast.northwind), alert)


def sign_in(client: Client, user: User) -> None:
    """With the password given again just now, as sensitive acts ask."""
    client.force_login(user)
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})


def names(resolver: URLResolver, prefix: str = "") -> Iterator[str]:
    """Names of all addresses; the admin's are staff's, see test_the_admin_is_for_staff."""
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLPattern):
            yield prefix + (pattern.name or str(pattern.pattern))
        elif pattern.app_name != "admin":
            yield from names(pattern, f"{pattern.namespace}:" if pattern.namespace else prefix)


def test_the_walk_knows_every_address() -> None:
    known = PUBLIC | BY_SECRET | DEVELOPMENT | STAFF | BY_KEY | OWN | BY_ID
    assert set(names(get_resolver())) - known == set()
    assert known - set(names(get_resolver())) == set(), "the walk names addresses that are gone"


@pytest.mark.parametrize("name", sorted(OWN | BY_ID | STAFF))
@pytest.mark.parametrize("method", ["get", "post"])
def test_nobody_gets_in_without_signing_in(world: World, client: Client, name: str, method: str) -> None:
    answer = getattr(client, method)(world.address(name))
    assert answer.status_code in (302, 405)
    if answer.status_code == 302:
        assert answer["Location"].startswith("/accounts/login/")


@pytest.mark.parametrize("name", sorted(BY_ID))
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_foreign_id_answers_like_a_missing_one(
    world: World, client: Client, name: str, method: str
) -> None:
    sign_in(client, world.cast.charlie)
    foreign = getattr(client, method)(
        world.address(name), {"confirm": world.key.name, "role": "admin", "grace": "0"}
    )
    missing_address = world.address(name).replace(world.key.public_id, "key_missing")
    missing_address = missing_address.replace(world.invitation.public_id, "inv_missing")
    missing_address = missing_address.replace(world.statement.public_id, "stm_missing")
    missing_address = missing_address.replace(world.alert.public_id, "alr_missing")
    missing = getattr(client, method)(missing_address.replace(world.membership.public_id, "mem_missing"))
    assert foreign.status_code in (404, 405)
    assert foreign.status_code == missing.status_code
    assert not any(mark in foreign.content.decode() for mark in world.marks)


@pytest.mark.parametrize("name", sorted(OWN))
def test_own_pages_show_nothing_of_others(world: World, client: Client, name: str) -> None:
    client.force_login(world.cast.charlie)
    answer = client.get(world.address(name))
    assert answer.status_code in (200, 302, 404, 405)
    assert [mark for mark in world.marks if mark in answer.content.decode()] == []


def test_switching_to_a_foreign_organization_is_not_possible(world: World, client: Client) -> None:
    client.force_login(world.cast.charlie)
    for identifier in (world.cast.northwind.public_id, "org_missing"):
        answer = client.post("/organizations/switch/", {"organization": identifier})
        assert answer.status_code == 404
    assert "Northwind" not in client.get("/usage/").content.decode()


def test_ownership_is_not_handed_to_members_of_others(world: World, client: Client) -> None:
    sign_in(client, world.cast.charlie)
    answer = client.post("/team/ownership/", {"member": world.membership.public_id})
    assert answer.status_code == 404
    world.membership.refresh_from_db()
    assert world.membership.role == Role.DEVELOPER


@pytest.mark.parametrize("name", sorted(NOT_FOR_DEVELOPERS))
def test_developers_are_told_that_their_role_does_not_allow_it(
    world: World, client: Client, name: str
) -> None:
    sign_in(client, world.cast.bob)
    assert client.post(world.address(name)).status_code == 403


@pytest.mark.parametrize("name", sorted(PAYERS_ONLY))
def test_documents_are_not_for_developers(world: World, client: Client, name: str) -> None:
    client.force_login(world.cast.bob)
    answer = client.get(world.address(name))
    assert answer.status_code == 403
    assert world.statement.number not in answer.content.decode()


@pytest.mark.parametrize("name", sorted(NOT_FOR_BILLING))
def test_billing_members_are_told_that_their_role_does_not_allow_it(
    world: World, client: Client, name: str
) -> None:
    finance = create_user("finance@northwind.example")
    create_membership(organization=world.cast.northwind, user=finance, role=Role.BILLING)
    client.force_login(finance)
    assert client.post(world.address(name)).status_code == 403


@pytest.mark.parametrize("name", sorted(STAFF))
def test_staff_pages_are_not_there_for_customers(world: World, client: Client, name: str) -> None:
    client.force_login(world.cast.alice)
    assert client.get(world.address(name)).status_code == 404


def test_the_admin_is_for_staff(world: World, client: Client) -> None:
    for address in (
        "/admin/",
        "/admin/accounts/organization/",
        "/admin/keys/apikey/",
        "/admin/plans/product/add/",
    ):
        assert client.get(address).status_code == 302
    client.force_login(world.cast.alice)
    for address in (
        "/admin/",
        "/admin/accounts/organization/",
        "/admin/keys/apikey/",
        "/admin/plans/product/add/",
    ):
        assert client.get(address).status_code == 302
    assert not OwnerKey.objects.exists()


def test_the_mailbox_is_not_there_in_production(world: World, client: Client) -> None:
    for address in ("/mailbox/", "/mailbox/1/"):
        assert client.get(address).status_code == 404


def test_an_invitation_is_opened_by_its_secret_only(world: World, client: Client) -> None:
    client.force_login(world.cast.charlie)
    for token in (world.invitation.public_id, str(world.invitation.pk), "0" * 43):
        answer = client.get(reverse("dashboard:invitation-accept", args=[token]))
        assert "Northwind" not in answer.content.decode()
        assert answer.status_code == 404


@pytest.mark.parametrize("name", sorted(OWN - {"dashboard:organization-create", "dashboard:payment-return"}))
def test_every_page_of_a_member_answers(world: World, client: Client, name: str) -> None:
    EmailAddress.objects.update_or_create(
        user=world.cast.alice, email=world.cast.alice.email, defaults={"verified": True, "primary": True}
    )
    client.force_login(world.cast.alice)
    answer = client.get(world.address(name))
    assert (
        answer.status_code in (200, 405) or answer["Location"] == "/team/"
    )  # which holds the form of ownership
