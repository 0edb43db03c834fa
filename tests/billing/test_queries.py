"""What periods cost and what plans earn."""

from datetime import timedelta
from decimal import Decimal

import pytest

from accounts.models import Organization
from billing.queries import mrr_by_plan
from core.clock import now
from dashboard.staff_page import overview
from metering.costs import period_cost
from plans.models import Period, Subscription, SubscriptionStatus
from plans.queries import current_period
from plans.services import roll_periods, start_subscription
from tests.factories import create_organization, create_plan

pytestmark = pytest.mark.django_db


def on_plan(slug: str, *, trial_days: int = 0, **plan: object) -> Organization:
    """An organization that pays for a plan of its own."""
    version = create_plan(slug, trial_days=trial_days, **plan)  # type: ignore[arg-type]
    organization = create_organization(plan="")
    start_subscription(
        organization=organization, version=version, by=None, at=now(), has_payment=not trial_days
    )
    return organization


def costs(organization: Organization) -> list[int]:
    periods = Period.objects.for_organization(organization).order_by("starts_at")
    return [period_cost(organization, period=period).total_minor for period in periods]


def test_monthly_fee_stands_in_every_period() -> None:
    organization = on_plan("monthly", fee_minor=4900)
    assert len(costs(organization)) >= 2
    assert set(costs(organization)) == {4900}


def test_trial_costs_nothing() -> None:
    organization = on_plan("tried", fee_minor=4900, trial_days=14)
    period = current_period(organization, at=now())
    assert period.is_trial
    assert period_cost(organization, period=period).total_minor == 0


def test_yearly_fee_stands_only_in_the_first_month_of_a_year() -> None:
    organization = on_plan("yearly", fee_minor=49_000, interval="year")
    roll_periods(at=now() + timedelta(days=330))
    found = costs(organization)
    assert found[0] == 49_000
    assert len(found) >= 12
    assert set(found[1:12]) == {0}


def test_currencies_are_never_added_up() -> None:
    on_plan("dollars", fee_minor=4900)
    on_plan("yen", fee_minor=7000, currency="JPY")
    Subscription.objects.update(status=SubscriptionStatus.ACTIVE)
    assert {(row.currency, row.mrr_minor) for row in mrr_by_plan(at=now())} == {("USD", 4900), ("JPY", 7000)}
    assert overview(at=now()).mrr == "¥7,000 + $49.00"
    assert overview(at=now()).calls_this_month == Decimal(0)
