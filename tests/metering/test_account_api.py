"""`GET /api/account/` tells of changes at once, and the DRF door of routes that are no longer sold."""

import pytest

from core.clock import now
from keys.services import revoke_key
from metering.drf import forget_cached
from plans.suspension import suspend_organization
from tests.metering.api_kit import Customer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def customer(usage_redis: object) -> Customer:
    return Customer.start()


def test_a_revoked_key_is_refused_on_its_next_look(customer: Customer) -> None:
    assert customer.get("/api/account/").status_code == 200
    revoke_key(key=customer.issued.key, by=None, at=now())
    assert customer.get("/api/account/").status_code == 401


def test_a_suspension_shows_at_once(customer: Customer) -> None:
    assert customer.get("/api/account/").json()["door"] == "open"
    suspend_organization(organization=customer.organization, reason="abuse", by=None, at=now())
    assert customer.get("/api/account/").json()["door"] == "suspended"


def test_a_route_that_is_not_sold_is_not_found(customer: Customer) -> None:
    customer.route.is_active = False
    customer.route.save()
    forget_cached()
    answer = customer.get()
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
