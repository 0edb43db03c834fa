from datetime import timedelta
from decimal import Decimal

import pytest

from core.clock import now
from dashboard.staff_page import overview
from metering.models import PeriodTotal
from plans.models import Meter
from plans.queries import current_period
from plans.services import roll_periods
from tests.factories import create_organization, create_plan, create_subscription

pytestmark = pytest.mark.django_db(transaction=True)


def test_who_let_the_trial_run_out_takes_nothing_off_the_usage() -> None:
    create_organization(plan="starter", at=now() - timedelta(days=40))
    roll_periods(at=now())
    assert overview(at=now()).usage_revenue == "$0.00"


def test_usage_is_counted_without_fees() -> None:
    create_plan("metered", fee_minor=1000, included=Decimal(10), unit_price=Decimal("0.5"))
    organization = create_organization(plan="", at=now() - timedelta(days=3))
    create_subscription(
        organization=organization, plan="metered", at=now() - timedelta(days=3), has_payment=True
    )
    period = current_period(organization, at=now())
    PeriodTotal.objects.create(
        organization_id=organization.pk, mode="live", meter_id=Meter.objects.get().pk, period_id=period.pk, sum=14, count=14,
        billed_count=14, max=1, last=1, last_at=now(), last_id="0" * 32,
    )  # fmt: skip
    found = overview(at=now())
    assert (found.usage_revenue, found.top[0].cost) == ("$2.00", "$12.00")
