from datetime import date, timedelta
from decimal import Decimal

import pytest

from accounts.models import Organization
from billing.models import ExchangeRate
from core.clock import now
from dashboard.staff_page import overview
from metering.models import PeriodTotal
from plans.models import Meter
from plans.queries import current_period
from plans.services import roll_periods
from tests.factories import create_organization, create_plan, create_subscription
from tests.plans.price_kit import component, meter, put_on, version_of

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


def paying(*components: dict[str, object], **terms: object) -> Organization:
    organization = create_organization()
    put_on(organization, version_of(*components, **terms))  # type: ignore[arg-type]
    return organization


def test_the_first_meter_is_shown_whatever_lines_follow() -> None:
    """Another meter's line and a true-up come after it."""
    calls, tokens = meter("calls"), meter("tokens")
    organization = paying(component(calls, included=100), component(tokens, included=100), minimum_minor=500)
    period = current_period(organization, at=now())
    for used, quantity in ((calls, 14), (tokens, 3)):
        PeriodTotal.objects.create(
            organization_id=organization.pk, mode="live", meter_id=used.pk, period_id=period.pk, sum=quantity,
            count=1, billed_count=1, max=1, last=1, last_at=now(), last_id="0" * 32,
        )  # fmt: skip
    assert overview(at=now()).top[0].calls == 14


def test_the_dearest_customers_are_found_over_currencies() -> None:
    """5,000 yen are less than 49 dollars, though more minor units."""
    ExchangeRate.objects.create(
        currency="JPY", into="USD", valid_from=date(2020, 1, 1), rate=Decimal("0.0067"), source="A bank"
    )
    yen, dollars = paying(fee_minor=5_000, currency="JPY"), paying(fee_minor=4_900)
    assert [row.organization for row in overview(at=now()).top] == [dollars, yen]
