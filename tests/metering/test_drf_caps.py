"""The spend cap at the DRF door."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from redis import Redis

from core.clock import now
from metering import drf
from plans.caps import set_cap
from plans.models import CapSide
from tests.metering.api_kit import Customer, problem
from tests.plans.price_kit import component, put_on, version_of


@pytest.fixture(autouse=True)
def _own_ledger(transactional_db: None, usage_redis: Redis) -> Iterator[None]:
    yield
    drf.forget_cached()


def test_cap_refuses_what_would_pass_it_and_raising_it_opens_the_next_call() -> None:
    customer = Customer.start()
    a_cent = component(customer.route.meter, included=2, unit_price=Decimal("0.01"))
    put_on(customer.organization, version_of(a_cent))

    def cap(amount_minor: int) -> None:
        set_cap(
            organization=customer.organization, side=CapSide.CUSTOMER, amount_minor=amount_minor, spent_minor=0,
            by=None, at=now(),
        )  # fmt: skip

    cap(1)
    assert [customer.get().status_code for _ in range(3)] == [200, 200, 200]
    answer = customer.get()
    problem(answer, 429, "spend_cap_reached")
    assert answer["x-should-retry"] == "false"
    cap(2)
    assert customer.get().status_code == 200
    problem(customer.get(), 429, "spend_cap_reached")
    assert customer.billed() == 4
