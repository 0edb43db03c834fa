"""The staff page of revenue: figures of any month with their definitions, the same numbers as table and CSV."""

import csv
import io
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.test import Client

from billing.models import ExchangeRate
from billing.queries import mrr_by_plan
from billing.revenue_definitions import DEFINITIONS, MOVEMENTS
from billing.revenue_report import revenue_choices, revenue_report
from billing.statements import finalise_due
from core.clock import now
from dashboard.staff_page import overview
from plans.models import PlanVersion
from plans.services import cancel_subscription, change_plan, roll_periods
from tests.billing.kit import Customer, basic_version
from tests.factories import create_plan, create_user

pytestmark = pytest.mark.django_db(transaction=True)
START = datetime(2026, 2, 10, 8, tzinfo=UTC)
DAY = timedelta(days=1)


def larger() -> PlanVersion:
    return create_plan("larger", fee_minor=9_900, included=Decimal(100), unit_price=Decimal("0.5"))


@pytest.fixture
def history(usage_redis: object) -> Customer:
    """Acme pays 49 from February and 99 from March, Beta leaves in March, Gamma pays in euros."""
    acme, beta = Customer.start(), Customer.start("Beta", at=START + DAY)
    euros = create_plan("euro", fee_minor=2_000, currency="EUR")
    Customer.start("Gamma", version=euros, at=START)
    acme.use(12_000)
    cancel_subscription(subscription=beta.subscription, by=None, at=START + DAY)
    roll_periods(at=START + 30 * DAY)
    change_plan(subscription=acme.subscription, version=larger(), by=None, at=START + 30 * DAY)
    roll_periods(at=datetime(2026, 4, 1, tzinfo=UTC))
    finalise_due(at=datetime(2026, 4, 1, tzinfo=UTC))
    return acme


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(create_user("staff@farebox.example", is_staff=True))
    return client


def page(staff: Client, address: str = "/staff/revenue/?month=2026-03&currency=USD") -> str:
    answer = staff.get(address)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_month_has_its_figures_with_definitions_on_the_page(history: Customer, staff: Client) -> None:
    shown = page(staff)
    assert '<dd class="stat-value">$99.00</dd>' in shown  # MRR: Beta's 49 went, Acme's rose by 50
    assert '<dd class="stat-value">$1,188.00</dd>' in shown
    assert '<dd class="stat-value">50.0%</dd>' in shown  # one of two customers, and half of the revenue
    assert '<dd class="stat-value">$198.00</dd>' in shown  # 99 / 0.5
    for one in (*DEFINITIONS, *MOVEMENTS):
        assert one.formula in shown
        assert one.source in shown


def test_a_past_month_shows_the_same_later(history: Customer) -> None:
    month, then = date(2026, 2, 1), datetime(2026, 4, 2, tzinfo=UTC)
    first = revenue_report(month=month, currency="USD", at=then)
    change_plan(subscription=history.subscription, version=basic_version(), by=None, at=then)
    roll_periods(at=then + 60 * DAY)
    assert revenue_report(month=month, currency="USD", at=then + 60 * DAY) == first
    assert (first.now.end_minor, first.now.customers_end) == (9_800, 2)


def test_usage_stands_beside_fees_by_month_plan_and_customer(history: Customer, staff: Client) -> None:
    found = revenue_report(month=date(2026, 3, 1), currency="USD", at=datetime(2026, 4, 1, tzinfo=UTC))
    march = found.charged[-1]
    assert march.usage_minor == 200  # 2,000 calls above 10,000
    assert sum(plan.usage_minor for plan in found.plans) == march.usage_minor
    assert sum(plan.fixed_minor for plan in found.plans) == march.fixed_minor
    assert sum(plan.mrr_minor for plan in found.plans) == found.now.end_minor == 9_900
    assert sum(one.total_minor for one in found.top) == march.fixed_minor + march.usage_minor
    assert found.top[0].name == "Acme"


def test_currencies_are_added_up_only_where_it_says_so(history: Customer, staff: Client) -> None:
    assert "no exchange rate: not in the sum" in page(staff)
    ExchangeRate.objects.create(
        currency="EUR", into="USD", rate=Decimal("1.1"), valid_from=date(2026, 3, 31), source="Central bank"
    )
    shown = page(staff)
    assert "≈ $121.00" in shown
    assert "1 EUR = 1.1 USD" in shown
    assert "Central bank" in shown
    assert "Nothing is charged by these rates" in shown
    assert "no exchange rate" in page(staff, "/staff/revenue/?month=2026-02&currency=USD")
    assert '<dd class="stat-value">€20.00</dd>' in page(staff, "/staff/revenue/?month=2026-03&currency=EUR")


def test_the_csv_has_the_months_of_the_page(history: Customer, staff: Client) -> None:
    answer = staff.get("/staff/revenue/csv/?month=2026-03&currency=USD")
    assert answer["Content-Disposition"] == 'attachment; filename="revenue-USD-2026-03.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert [row["month"] for row in rows] == ["2026-02", "2026-03"]
    last = rows[-1]
    assert (last["mrr_start"], last["expansion"], last["churn"], last["mrr_end"]) == (
        "98.00",
        "50.00",
        "49.00",
        "99.00",
    )
    assert (last["logo_churn"], last["ltv"], last["charged_usage"]) == ("0.5000", "198.00", "2.00")


@pytest.mark.parametrize(
    "asked", ["?month=1999-01", "?month=x&currency=XXX", "?month=2026-13", "?month=2026-02-30"]
)
def test_a_choice_that_is_not_there_is_the_present_month(
    history: Customer, staff: Client, asked: str
) -> None:
    assert f"{now():%B %Y}, so far" in page(staff, f"/staff/revenue/{asked}")


def test_the_page_says_what_the_overview_says(history: Customer) -> None:
    at = now()
    roll_periods(at=at)
    found = revenue_report(month=at.date().replace(day=1), currency="USD", at=at)
    assert found.now.end_minor == sum(row.mrr_minor for row in mrr_by_plan(at=at) if row.currency == "USD")
    assert overview(at=at).mrr == "€20.00 + $99.00"


def test_the_page_of_an_empty_installation(staff: Client) -> None:
    shown = page(staff, "/staff/revenue/")
    assert "Nothing moved in this time" in shown
    assert '<dd class="stat-value">–</dd>' in shown


def test_the_number_of_queries_does_not_grow(history: Customer, django_assert_num_queries: object) -> None:
    at = datetime(2026, 4, 1, tzinfo=UTC)
    for number in range(3):
        Customer.start(f"More {number}", at=START + number * DAY)
    with django_assert_num_queries(11):  # type: ignore[operator]
        revenue_choices(at=at)
        revenue_report(month=date(2026, 3, 1), currency="USD", at=at)
