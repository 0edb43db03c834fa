"""The customer's side of caps: what the page says, who may change it, and that the door hears of it."""

from decimal import Decimal

import pytest
from django.test import Client

from accounts.models import AuditEvent, Role
from core.clock import now
from plans.caps import cap_in_force, set_cap
from plans.models import CapSide, SpendCap
from tests.cast import Cast, create_cast
from tests.factories import create_membership, create_user
from tests.metering.test_spending import use
from tests.plans.price_kit import component, meter, put_on, version_of

pytestmark = pytest.mark.django_db
PAGE, SET, REMOVE = "/alerts/", "/alerts/cap/", "/alerts/cap/remove/"


@pytest.fixture
def cast() -> Cast:
    """Northwind pays 10 a month and a cent for each unit."""
    cast = create_cast()
    put_on(
        cast.northwind, version_of(component(meter("units"), model="per_unit", unit_price=Decimal("0.01")))
    )
    return cast


def page(client: Client) -> str:
    answer = client.get(PAGE)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def caps(cast: Cast) -> list[tuple[str, int | None]]:
    rows = SpendCap.objects.for_organization(cast.northwind).order_by("at", "pk")
    return [(cap.side, cap.amount_minor) for cap in rows]


def test_without_a_cap_the_page_says_that_nothing_bounds_the_bill(cast: Cast, client: Client) -> None:
    client.force_login(cast.alice)
    assert "No upper bound: set a cap." in page(client)


def test_a_cap_is_set_changed_and_removed(cast: Cast, client: Client) -> None:
    client.force_login(cast.alice)
    assert client.post(SET, {"amount": "25.50"}).status_code == 302
    text = page(client)
    assert "$0.00</strong> of $25.50" in text
    assert "set by Alice Berg" in text
    assert "$35.50" in text  # fee and cap
    client.post(SET, {"amount": "30"})
    client.post(REMOVE)
    assert caps(cast) == [("customer", 2550), ("customer", 3000), ("customer", None)]
    assert list(AuditEvent.objects.filter(action__startswith="cap.").values_list("action", flat=True).order_by("at")) == [
        "cap.set", "cap.set", "cap.removed",
    ]  # fmt: skip


@pytest.mark.parametrize("amount", ["", "-1", "1.005", "a lot", "99999999999"])
def test_amounts_that_make_no_sense_are_asked_again(cast: Cast, client: Client, amount: str) -> None:
    client.force_login(cast.alice)
    assert client.post(SET, {"amount": amount}).status_code == 422
    assert caps(cast) == []


def test_a_cap_that_is_spent_already_asks_before_it_stops_calls(cast: Cast, client: Client) -> None:
    use(cast.northwind, 700)
    client.force_login(cast.alice)
    answer = client.post(SET, {"amount": "5"})
    assert answer.status_code == 422
    assert "Refuse calls at once" in answer.content.decode()
    assert caps(cast) == []
    assert client.post(SET, {"amount": "5", "stops_now": "on"}).status_code == 302
    assert "Reached" in page(client)
    assert SpendCap.objects.get().spent_minor == 700


def test_the_lower_side_is_named(cast: Cast, client: Client) -> None:
    set_cap(
        organization=cast.northwind, side=CapSide.OWNER, amount_minor=1000, spent_minor=0, by=None, at=now()
    )  # fmt: skip
    client.force_login(cast.alice)
    client.post(SET, {"amount": "25"})
    text = page(client)
    assert "$10.00 a period, set by the provider" in text
    cap = cap_in_force(cast.northwind, at=now())
    assert cap is not None
    assert cap.side == CapSide.OWNER


@pytest.mark.parametrize(("role", "status"), [(Role.ADMIN, 302), (Role.BILLING, 302), (Role.DEVELOPER, 403)])
def test_who_may_change_it(cast: Cast, client: Client, role: Role, status: int) -> None:
    member = create_user()
    create_membership(organization=cast.northwind, user=member, role=role)
    client.force_login(member)
    assert "Spend cap" in page(client)
    assert client.post(SET, {"amount": "5"}).status_code == status
    assert client.post(REMOVE).status_code == status


def test_the_usage_page_shows_the_largest_bill(cast: Cast, client: Client) -> None:
    client.force_login(cast.alice)
    assert "no upper bound" in client.get("/usage/").content.decode()
    client.post(SET, {"amount": "25"})
    assert "$35.00" in client.get("/usage/").content.decode()


def test_a_cap_of_another_currency_is_named_as_gone(cast: Cast, client: Client) -> None:
    client.force_login(cast.alice)
    client.post(SET, {"amount": "25"})
    put_on(cast.northwind, version_of(currency="EUR"))
    assert "The cap of $25.00 no longer holds" in page(client)


def test_a_change_of_plan_to_another_currency_says_that_the_cap_goes(cast: Cast, client: Client) -> None:
    put_on(cast.northwind, version_of(currency="EUR"))
    client.force_login(cast.alice)
    change = "/plan/to/professional/"
    assert "will not hold" not in client.get(change).content.decode()
    client.post(SET, {"amount": "25"})
    assert "The spend cap of €25.00 will not hold" in client.get(change).content.decode()
