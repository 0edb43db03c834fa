"""What is in the cost of a period beside usage: shares of fees, caps; live and on the statement the same."""

from datetime import timedelta
from decimal import Decimal

import pytest

from billing.models import LineKind, Statement
from billing.recompute import recompute
from billing.statements import finalise_due
from metering.costs import period_cost
from plans.caps import set_cap
from plans.models import CapSide
from plans.services import change_plan
from tests.billing.kit import HOUR, Customer
from tests.factories import create_plan

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def test_an_upgrade_credits_the_smaller_share_of_the_fee() -> None:
    acme = Customer.start()  # 28 days from 10 February
    bigger = create_plan("bigger", fee_minor=19_900, included=Decimal(100_000), unit_price=Decimal("0.0005"))
    acme.use(6_000)
    at = acme.period().starts_at + 15 * DAY
    change_plan(subscription=acme.subscription, version=bigger, by=None, at=at)
    closed = acme.period()
    live = period_cost(acme.organization, period=closed)

    finalise_due(at=at + HOUR)

    statement = Statement.objects.get(period=closed)
    line = statement.lines.get(kind=LineKind.FEE_CREDIT)
    assert line.amount_minor == -1_960  # 4,000 of 10,000 calls are left: less than 13 of 28 days
    assert statement.total_minor == live.total_minor == 4_900 - 1_960
    assert recompute(statement) == []
    assert period_cost(acme.organization, period=acme.period(1)).total_minor == 19_900


def test_a_yearly_fee_stands_in_the_first_month_only() -> None:
    yearly = create_plan(
        "yearly", fee_minor=49_000, included=Decimal(10), unit_price=Decimal(1), interval="year"
    )
    acme = Customer.start(version=yearly)
    acme.use(12, month=1)

    assert acme.finalise().total_minor == 49_000
    assert acme.finalise(1).total_minor == 200


def test_usage_above_the_cap_is_written_off() -> None:
    acme = Customer.start()
    set_cap(
        organization=acme.organization, side=CapSide.CUSTOMER, amount_minor=150, spent_minor=0, by=None,
        at=acme.period().starts_at + HOUR,
    )  # fmt: skip
    acme.use(12_500)

    statement = acme.finalise()

    amounts = dict(statement.lines.values_list("kind", "amount_minor"))
    assert amounts == {"fee": 4_900, "usage": 250, "write_off": -100}
    assert statement.total_minor == 4_900 + 150
    assert recompute(statement) == []


def test_late_usage_above_the_cap_costs_nothing() -> None:
    acme = Customer.start()
    set_cap(
        organization=acme.organization, side=CapSide.CUSTOMER, amount_minor=150, spent_minor=0, by=None,
        at=acme.period().starts_at + HOUR,
    )  # fmt: skip
    acme.use(11_000)
    acme.finalise()
    acme.use(5_000)

    adjustments = acme.finalise(1).lines.filter(kind=LineKind.ADJUSTMENT)

    assert sorted(adjustments.values_list("amount_minor", flat=True)) == [-450, 500]
