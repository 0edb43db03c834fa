import pytest
from django.test import Client

from accounts.models import Role
from tests.billing.test_adviser import customer
from tests.factories import create_membership, create_user

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(("calls", "is_advised"), [(400_000, True), (50_000, False)])
def test_the_plan_page_names_the_plan_that_would_have_cost_less(
    client: Client, calls: int, is_advised: bool
) -> None:
    organization, alice = customer("starter", calls), create_user("alice@northwind.example")
    create_membership(organization=organization, user=alice, role=Role.OWNER)
    client.force_login(alice)
    page = client.get("/plan/").content.decode()
    assert (
        "On Professional you would have paid <strong>$600.00</strong> less over the last 3 months" in page
    ) is is_advised
