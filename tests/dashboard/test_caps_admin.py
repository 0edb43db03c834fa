"""The provider's side of caps in the admin."""

from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEvent
from core.clock import now
from plans.caps import cap_in_force
from tests.cast import Cast, create_cast
from tests.factories import create_organization, create_user
from tests.metering.test_spending import use
from tests.plans.price_kit import component, meter, put_on, version_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> Cast:
    cast = create_cast()
    put_on(
        cast.northwind, version_of(component(meter("units"), model="per_unit", unit_price=Decimal("0.01")))
    )
    return cast


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(create_user("staff@farebox.example", is_staff=True))
    return client


def address(cast: Cast) -> str:
    return reverse("admin:accounts_organization_cap", args=[cast.northwind.pk])


def amount(cast: Cast) -> int | None:
    cap = cap_in_force(cast.northwind, at=now())
    return cap.amount_minor if cap else None


def test_staff_sets_changes_and_removes_it(cast: Cast, staff: Client) -> None:
    change = reverse("admin:accounts_organization_change", args=[cast.northwind.pk])
    assert address(cast) in staff.get(change).content.decode()
    staff.post(address(cast), {"amount": "30"})
    assert amount(cast) == 3000
    assert "$30.00, set by the provider" in staff.get(change).content.decode()
    assert "Change cap" in staff.get(address(cast)).content.decode()
    staff.post(address(cast), {"amount": "20.25"})
    assert amount(cast) == 2025
    assert staff.post(address(cast), {"remove": "1"}).status_code == 422
    assert staff.post(address(cast), {"remove": "1", "sure": "on"}).status_code == 302
    assert amount(cast) is None
    assert (
        AuditEvent.objects.filter(action__startswith="cap.", by__email="staff@farebox.example").count() == 3
    )


def test_a_spent_cap_asks_before_it_stops_calls(cast: Cast, staff: Client) -> None:
    use(cast.northwind, 700)
    answer = staff.post(address(cast), {"amount": "5"})
    assert answer.status_code == 422
    assert "Refuse calls at once" in answer.content.decode()
    assert amount(cast) is None
    assert staff.post(address(cast), {"amount": "5", "stops_now": "on"}).status_code == 302
    assert amount(cast) == 500


def test_the_same_cap_again_is_said_and_not_stored(cast: Cast, staff: Client) -> None:
    staff.post(address(cast), {"amount": "30"})
    assert staff.post(address(cast), {"amount": "30"}).status_code == 422
    assert staff.post(address(cast), {"amount": "none"}).status_code == 422
    assert amount(cast) == 3000


def test_it_is_for_staff_and_for_organizations_with_a_plan(cast: Cast, client: Client) -> None:
    client.force_login(cast.alice)
    assert client.post(address(cast), {"amount": "30"}).status_code == 302  # to the admin's sign-in
    assert amount(cast) is None
    client.force_login(create_user("staff@farebox.example", is_staff=True))
    planless = create_organization(plan="")
    assert client.get(reverse("admin:accounts_organization_cap", args=[planless.pk])).status_code == 404
    change = reverse("admin:accounts_organization_change", args=[planless.pk])
    assert "no plan, no cap" in client.get(change).content.decode()
