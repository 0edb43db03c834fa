"""What is in the cost of a period beside usage: shares of fees, caps; live and on the statement the same."""

from datetime import timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from billing.models import LineKind, Statement
from billing.recompute import recompute
from billing.statements import finalise_due
from core.clock import now
from metering.costs import fee_back_minor, period_cost
from plans.caps import set_cap
from plans.models import CapSide
from plans.periods import month_bounds
from plans.queries import current_period
from plans.services import activate_subscription, change_plan, roll_periods, start_subscription
from tests.billing.kit import HOUR, Customer
from tests.factories import create_organization, create_plan

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def test_an_upgrade_credits_the_smaller_share_of_the_fee() -> None:
    acme = Customer.start()  # 28 days from 10 February
    bigger = create_plan("bigger", fee_minor=19_900, included=Decimal(100_000), unit_price=Decimal("0.0005"))
    acme.use(6_000)
    at = acme.period().starts_at + 15 * DAY
    announced = fee_back_minor(acme.period(), at=at)
    change_plan(subscription=acme.subscription, version=bigger, by=None, at=at)
    closed = acme.period()
    live = period_cost(acme.organization, period=closed)

    finalise_due(at=at + HOUR)

    statement = Statement.objects.get(period=closed)
    line = statement.lines.get(kind=LineKind.FEE_CREDIT)
    assert (
        line.amount_minor == -announced == -1_960
    )  # 4,000 of 10,000 calls are left: less than 13 of 28 days
    assert statement.total_minor == live.total_minor == 4_900 - 1_960
    assert recompute(statement) == []
    assert period_cost(acme.organization, period=acme.period(1)).total_minor == 19_900


def test_a_trial_has_no_fee_to_give_back() -> None:
    organization = create_organization(plan="")
    start_subscription(
        organization=organization, version=create_plan("paid", trial_days=14), by=None, at=now()
    )
    assert fee_back_minor(current_period(organization, at=now()), at=now()) == 0


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


@pytest.mark.parametrize("rolled", [True, False])
def test_time_after_an_unpaid_trial_costs_nothing_and_months_begin_with_the_payment(rolled: bool) -> None:
    at = now() - 90 * DAY
    tried = create_plan("tried", fee_minor=4_900, trial_days=14, unit_price=Decimal(1))
    organization = create_organization(plan="", at=at)
    subscription = start_subscription(organization=organization, version=tried, by=None, at=at)
    paid_at = at + 50 * DAY
    if rolled:
        roll_periods(at=paid_at - HOUR)
    activate_subscription(subscription=subscription, by=None, at=paid_at)

    finalise_due(at=at + 85 * DAY)

    rows = Statement.objects.for_organization(organization).order_by("starts_at")
    assert [(row.ends_at, row.total_minor) for row in rows][-2:] == [
        (paid_at, 0),
        (month_bounds(paid_at, paid_at)[1], 4_900),
    ]
    assert sum(row.total_minor for row in rows) == 4_900
    assert all(one.ends_at == other.starts_at for one, other in pairwise(rows))
    assert all(recompute(row) == [] for row in rows)


def test_a_customer_who_never_pays_after_the_trial_is_sent_nothing() -> None:
    at = now() - 90 * DAY
    tried = create_plan("tried", fee_minor=4_900, trial_days=14, unit_price=Decimal(1))
    organization = create_organization(plan="", at=at)
    start_subscription(organization=organization, version=tried, by=None, at=at)
    roll_periods(at=at + 85 * DAY)

    finalise_due(at=at + 85 * DAY)

    totals = Statement.objects.for_organization(organization).values_list("total_minor", flat=True)
    assert list(totals) == [0, 0, 0]
    present = organization.periods.filter(starts_at__lte=at + 85 * DAY).latest("starts_at")
    assert period_cost(organization, period=present).total_minor == 0
