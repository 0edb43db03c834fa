from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import call_command

from accounts.models import Organization
from billing.forecast import Model
from billing.forecast_queries import back_test, daily_quantities, period_forecast
from core.clock import to_micros
from core.ids import event_id
from metering.events import Event
from metering.models import PeriodTotal, UsageTotal
from metering.services import ingest_history
from plans.models import Meter, Period
from tests.factories import create_organization, create_plan, create_subscription

pytestmark = pytest.mark.django_db(transaction=True)
START = datetime(2026, 9, 1, tzinfo=UTC)


@pytest.fixture
def organization() -> Organization:
    """On 1,000 calls included, then 0.01 each; 100 calls on each day of September and of two weeks of October."""
    create_plan("metered", fee_minor=1000, included=Decimal(1000), unit_price=Decimal("0.01"))
    organization = create_organization(plan="", at=START)
    create_subscription(organization=organization, plan="metered", at=START, has_payment=True)
    meter, periods = (
        Meter.objects.get(),
        list(Period.objects.for_organization(organization).order_by("starts_at")),
    )
    ingest_history(
        [_calls(organization, meter, periods, START + timedelta(days=n, hours=12)) for n in range(44)],
        at=START + timedelta(days=44),
    )
    return organization


def _calls(organization: Organization, meter: Meter, periods: list[Period], moment: datetime) -> Event:
    period = next(p for p in periods if p.starts_at <= moment < p.ends_at)
    moment_us = to_micros(moment)
    return Event(
        id=event_id(moment_us, moment_us % 2**60), occurred_at_us=moment_us, received_at_us=moment_us,
        organization_id=organization.pk, mode="live", meter_id=meter.pk, period_id=period.pk,
        quantity=Decimal(100), door="ingest",
    )  # fmt: skip


def test_the_running_period_ends_where_its_days_lead(organization: Organization) -> None:
    october = Period.objects.for_organization(organization).get(starts_at=datetime(2026, 10, 1, tzinfo=UTC))
    found = period_forecast(organization, period=october, at=datetime(2026, 10, 15, tzinfo=UTC))
    assert found.meters["api_calls"].expected == 1400 + 1700
    assert found.low_minor == found.expected_minor == found.high_minor == 1000 + 2100
    assert found.passes_included_on is None  # it has been passed


def test_the_day_on_which_the_included_quantity_is_passed_is_named(organization: Organization) -> None:
    september = Period.objects.for_organization(organization).get(starts_at=START)
    PeriodTotal.objects.for_organization(organization).filter(period_id=september.pk).update(sum=900)
    found = period_forecast(organization, period=september, at=START + timedelta(days=9))
    assert found.passes_included_on == date(2026, 9, 11)


def test_before_the_first_call_of_a_period_its_history_speaks(organization: Organization) -> None:
    """100 a day in the period before: 3,100 in October, though nothing was used in it yet."""
    october = Period.objects.for_organization(organization).get(starts_at=datetime(2026, 10, 1, tzinfo=UTC))
    PeriodTotal.objects.for_organization(organization).filter(period_id=october.pk).delete()
    UsageTotal.objects.for_organization(organization).filter(period_id=october.pk).delete()
    found = period_forecast(organization, period=october, at=october.starts_at)
    assert found.meters["api_calls"].expected == 3100
    assert found.expected_minor == 1000 + 2100
    assert found.passes_included_on == date(2026, 10, 11)


def test_days_are_counted_in_utc(organization: Organization) -> None:
    found = daily_quantities(
        organization, meter=Meter.objects.get(), start=START, end=START + timedelta(days=2)
    )
    assert list(found.values()) == [100, 100]


def test_the_back_test_compares_with_what_was_used_in_the_end(organization: Organization) -> None:
    misses = list(back_test(at=datetime(2026, 10, 15, tzinfo=UTC), model=Model.WEEKDAY))
    half_a_day = Decimal(50) / 3000  # the days' calls come at noon, two of the three forecasts are made then
    assert [miss.error.quantize(Decimal("1e-9")) for miss in misses] == [
        half_a_day.quantize(Decimal("1e-9")), 0, half_a_day.quantize(Decimal("1e-9"))
    ]  # fmt: skip
    assert misses[1].held


def test_the_command_prints_the_error_of_every_model(organization: Organization) -> None:
    out = StringIO()
    call_command("forecast_backtest", stdout=out)
    assert [line.split()[0] for line in out.getvalue().splitlines()] == [str(model) for model in Model]


def test_the_command_says_when_there_is_nothing_to_test(db: None) -> None:
    out = StringIO()
    call_command("forecast_backtest", stdout=out)
    assert "nothing to test" in out.getvalue()
