"""The position of a period: what is spent, what bounds the bill."""

from decimal import Decimal
from uuid import uuid4

import pytest
import redis
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Organization
from core.clock import now
from core.redis_layout import usage_key
from metering.models import PeriodTotal
from metering.spending import most_usage_minor, set_spend_cap, spend_position, spent_so_far_minor
from plans.caps import set_cap
from plans.models import CapSide, Period
from plans.queries import current_period
from tests.factories import create_organization
from tests.plans.price_kit import component, meter, put_on, version_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def organization() -> Organization:
    """Paying 10 a month and a cent for each unit."""
    organization = create_organization()
    put_on(organization, version_of(component(meter("units"), model="per_unit", unit_price=Decimal("0.01"))))
    return organization


def use(organization: Organization, quantity: int) -> None:
    period = current_period(organization, at=now())
    PeriodTotal.objects.update_or_create(
        organization_id=organization.pk, mode="live", meter_id=meter("units").pk, period_id=period.pk, dimension="",
        defaults={"sum": quantity, "count": quantity, "last": 1, "max": 1, "billed_count": quantity, "last_at": now(), "last_id": uuid4()},
    )  # fmt: skip


def cap(
    organization: Organization, amount: int | None, side: CapSide = CapSide.CUSTOMER, spent: int = 0
) -> None:
    set_cap(organization=organization, side=side, amount_minor=amount, spent_minor=spent, by=None, at=now())


def test_without_a_cap_nothing_bounds_the_bill(organization: Organization) -> None:
    use(organization, 70)
    position = spend_position(organization, at=now())
    assert position is not None
    assert (position.usage_minor, position.cap, position.largest_bill_minor) == (70, None, None)


def test_with_a_cap_the_largest_bill_is_fee_and_cap(organization: Organization) -> None:
    cap(organization, 2_500)
    use(organization, 2_000)
    position = spend_position(organization, at=now())
    assert position is not None
    assert (position.fee_minor, position.largest_bill_minor, position.share) == (1_000, 3_500, 80)


def test_usage_above_the_cap_is_written_off_and_the_position_stays_at_it(organization: Organization) -> None:
    cap(organization, 100)
    use(organization, 5_000)
    position = spend_position(organization, at=now())
    assert position is not None
    assert (position.usage_minor, position.share) == (100, 100)


def test_a_cap_below_what_was_spent_bounds_the_bill_at_what_was_spent(organization: Organization) -> None:
    use(organization, 700)
    cap(organization, 100, spent=700)
    position = spend_position(organization, at=now())
    assert position is not None
    assert (position.usage_minor, position.largest_bill_minor, position.share) == (700, 1_700, 100)


def test_a_minimum_spend_above_the_cap_is_what_usage_costs_at_most(organization: Organization) -> None:
    put_on(
        organization,
        version_of(component(meter("units"), unit_price=Decimal("0.01")), fee_minor=0, minimum_minor=900),
    )
    cap(organization, 100)
    position = spend_position(organization, at=now())
    assert position is not None
    assert position.largest_bill_minor == 900


def test_in_a_trial_the_largest_bill_is_nothing(organization: Organization) -> None:
    Period.objects.for_organization(organization).update(is_trial=True)
    position = spend_position(organization, at=now())
    assert position is not None
    assert position.largest_bill_minor == 0


def test_where_usage_is_billed_above_the_cap_it_is_said(organization: Organization) -> None:
    put_on(organization, version_of(component(meter("units"), unit_price=Decimal("0.01")), over_cap="billed"))
    cap(organization, 100)
    position = spend_position(organization, at=now())
    assert position is not None
    assert position.later_usage_is_billed


def test_prices_that_bound_themselves() -> None:
    hard = component(meter("hard"), included=1_000)
    maximum = component(meter("capped"), unit_price=Decimal(1), maximum_minor=4_000)
    assert most_usage_minor(version_of(hard)) == 0
    assert most_usage_minor(version_of(hard, maximum)) == 4_000
    assert most_usage_minor(version_of(hard, component(meter("open"), unit_price=Decimal(1)))) is None


def test_what_is_counted_and_not_yet_stored_is_spent_too(
    organization: Organization, usage_redis: "redis.Redis"
) -> None:
    use(organization, 70)
    period = current_period(organization, at=now())
    assert spent_so_far_minor(organization, period) == 70
    key = usage_key(organization.shard, organization.pk, "live", period.pk)
    usage_redis.hset(key, mapping={str(meter("units").pk): "90", f"r{meter('units').pk}": "5"})
    assert spent_so_far_minor(organization, period) == 90


def test_what_is_spent_is_read_under_the_lock_that_the_cap_is_set_under(organization: Organization) -> None:
    use(organization, 700)
    with CaptureQueriesContext(connection) as run:
        made = set_spend_cap(
            organization=organization, side=CapSide.CUSTOMER, amount_minor=100, by=None, at=now()
        )
    statements = [query["sql"] for query in run.captured_queries]
    locked = next(n for n, sql in enumerate(statements) if "FOR NO KEY UPDATE" in sql)
    read = next(n for n, sql in enumerate(statements) if "usage_period_total" in sql)
    assert locked < read
    assert (made.amount_minor, made.spent_minor) == (100, 700)
