"""The admin's pages about people: lists open, history is read only, the buttons call the acts."""

from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEvent, Invitation, Membership, Organization, OrganizationStatus, User
from accounts.services import create_staff
from billing.accounts import account_changed
from tests.cast import Cast, create_cast
from tests.factories import PASSWORD

pytestmark = pytest.mark.django_db
MODELS = (AuditEvent, Invitation, Membership, Organization, User)


@pytest.fixture
def cast(usage_redis: Any) -> Cast:
    return create_cast()


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(create_staff(email="staff@farebox.example", password=PASSWORD))
    return client


@pytest.mark.parametrize("model", MODELS)
def test_list_opens(cast: Cast, staff: Client, model: type) -> None:
    assert staff.get(reverse(f"admin:accounts_{model.__name__.lower()}_changelist")).status_code == 200


@pytest.mark.parametrize("model", MODELS)
def test_nothing_is_deleted_or_added_by_hand(cast: Cast, staff: Client, model: type) -> None:
    name = model.__name__.lower()
    assert staff.get(reverse(f"admin:accounts_{name}_add")).status_code == 403
    row = admin.site._registry[model].model._default_manager.first()  # type: ignore[index]
    if row is not None:
        assert staff.get(reverse(f"admin:accounts_{name}_delete", args=[row.pk])).status_code == 403


def test_staff_suspend_and_reactivate(cast: Cast, staff: Client) -> None:
    for action, status in (
        ("suspend", OrganizationStatus.SUSPENDED),
        ("reactivate", OrganizationStatus.ACTIVE),
    ):
        before = Organization.objects.get(pk=cast.northwind.pk).version
        sent = {"action": action, "_selected_action": [cast.northwind.pk]}
        staff.post(reverse("admin:accounts_organization_changelist"), sent)
        organization = Organization.objects.get(pk=cast.northwind.pk)
        assert organization.status == status
        assert organization.version > before
        event = AuditEvent.objects.for_organization(organization).latest("pk")
        assert event.by is not None
        assert event.by.email == "staff@farebox.example"


def test_a_customer_is_renamed_and_collectors_hear_of_it(
    cast: Cast, staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Organization] = []
    receiver = lambda organization, **_: told.append(organization)  # noqa: E731
    account_changed.connect(receiver)
    url = reverse("admin:accounts_organization_change", args=[cast.northwind.pk])
    inline = {"memberships-TOTAL_FORMS": 0, "memberships-INITIAL_FORMS": 0}
    version = Organization.objects.get(pk=cast.northwind.pk).version

    for name in ("Northwind Ltd", "Northwind Ltd"):
        assert staff.post(url, {"name": name} | inline).status_code == 302

    organization = Organization.objects.get(pk=cast.northwind.pk)
    assert (organization.name, organization.version) == ("Northwind Ltd", version)
    assert told == [organization]
    event = AuditEvent.objects.for_organization(organization).get(action="organization.renamed")
    assert event.details == {"before": "Northwind Maps", "name": "Northwind Ltd"}


def test_page_of_a_customer_shows_its_people(cast: Cast, staff: Client) -> None:
    page = staff.get(reverse("admin:accounts_organization_change", args=[cast.northwind.pk]))
    assert cast.bob.name in page.content.decode()


def test_staff_who_are_not_superusers_cannot_raise_themselves(cast: Cast) -> None:
    clerk = create_staff(email="clerk@farebox.example", password=PASSWORD)
    User.objects.filter(pk=clerk.pk).update(is_superuser=False)
    model_admin = admin.site._registry[User]
    request: Any = type("Request", (), {"user": User.objects.get(pk=clerk.pk)})()
    assert {"is_staff", "is_superuser"} <= set(model_admin.get_readonly_fields(request))


def test_customer_does_not_enter_the_admin(cast: Cast) -> None:
    client = Client()
    client.force_login(cast.alice)
    assert client.get(reverse("admin:accounts_user_changelist")).status_code == 302
