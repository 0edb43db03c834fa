"""The staff page of margins: who sees it, its parts and their CSV, sorting and pages, currencies, and what is not there."""

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.test import Client

from billing.margin_definitions import DEFINITIONS
from billing.revenue_report import revenue_choices
from billing.statements import finalise_due
from core.clock import now
from dashboard.margins_page import ask, call_price
from plans.models import CostPrices, PlanVersion, Route, RouteCost
from plans.services import roll_periods
from tests.billing.kit import Customer
from tests.factories import create_plan, create_product, create_route, create_user

pytestmark = pytest.mark.django_db(transaction=True)
DAY = timedelta(days=1)
PAGE = "/staff/margins/"


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(create_user("staff@farebox.example", is_staff=True))
    return client


@pytest.fixture
def route(usage_redis: object) -> Route:
    """A call to it costs 0.10."""
    found = create_route(create_product(), path="/search")
    RouteCost.objects.create(
        route=found, compute_ms=Decimal(0), kb_out=Decimal(0), third_party_calls=Decimal(1)
    )
    return found


def set_prices(currency: str = "USD") -> None:
    CostPrices.objects.create(
        valid_from=now() - 400 * DAY, currency=currency, per_third_party_call=Decimal("0.1")
    )


def version(currency: str = "USD", slug: str = "small") -> PlanVersion:
    return create_plan(
        slug, fee_minor=500, included=Decimal(10), unit_price=Decimal("0.5"), currency=currency
    )


def start(name: str, plan: PlanVersion, *, days: int = 20) -> Customer:
    return Customer.start(name, version=plan, at=now() - days * DAY)


def page(staff: Client, query: str = "") -> str:
    answer = staff.get(PAGE + query)
    assert answer.status_code == 200
    return answer.content.decode()


def rows_of(staff: Client, part: str, query: str = "") -> list[dict[str, str]]:
    answer = staff.get(f"{PAGE}csv/{part}/{query}")
    assert answer.status_code == 200
    return list(csv.DictReader(io.StringIO(answer.content.decode())))


def test_only_staff_see_it(client: Client, route: Route) -> None:
    assert client.get(PAGE).status_code == 302
    client.force_login(create_user("owner@example.com"))
    for address in (PAGE, f"{PAGE}csv/plan/"):
        assert client.get(address).status_code in (403, 404)


def test_the_running_periods_with_their_parts(staff: Client, route: Route) -> None:
    set_prices()
    acme = start("Acme", version())
    acme.call(route, times=20)
    acme.call(route, times=4, status=502, reason="upstream_error")
    acme.call(route, times=6, mode="test")
    shown = page(staff)
    assert "Running now" in shown
    assert '<dd class="stat-value">$10.00</dd>' in shown  # the fee, and ten calls above what is included
    assert '<dd class="stat-value">$3.00</dd>' in shown  # 30 calls
    assert '<dd class="stat-value">$1.00</dd>' in shown  # of them not charged
    assert '<dd class="stat-value">$7.00</dd>' in shown
    assert "4 live, 6 test" in shown
    assert "70.0% of revenue" in shown
    assert "⚠ under" not in shown
    assert "A charged call brings" in shown
    assert "$0.10 a third-party call" in shown
    for one in DEFINITIONS:
        assert one.formula.replace("'", "&#x27;") in shown


def test_what_sells_below_its_cost_is_said_in_words(staff: Client, route: Route) -> None:
    set_prices()
    free = create_plan("gift", fee_minor=0)
    thin, loss = start("Thin", version()), start("Loss", free)
    thin.call(route, times=10)
    thin.call(route, times=7, mode="test")
    loss.call(route, times=3)
    shown = page(staff)
    thin_row, loss_row = (shown.split(f">{name}</a>")[1].split("</th>")[0] for name in ("Thin", "Loss"))
    assert "⚠ under 3× cost" in thin_row
    assert "⚠ loss" in loss_row


def test_the_csv_of_each_part_adds_up(staff: Client, route: Route) -> None:
    set_prices()
    plan = version()
    for number in range(30):
        start(f"Customer {number:02}", plan).call(route, times=number + 1)
    start("=cmd()", plan)
    parts = {part: rows_of(staff, part) for part in ("plan", "customer", "route")}
    assert [len(parts[part]) for part in ("plan", "customer", "route")] == [1, 31, 1]
    for column in ("calls_charged", "cost", "revenue", "margin"):
        sums = {part: sum(Decimal(row[column]) for row in rows) for part, rows in parts.items()}
        assert len(set(sums.values())) == 1, (column, sums)
    assert parts["plan"][0]["cost"] == "46.5"
    assert parts["route"][0]["cost_per_call"] == "0.1"
    assert "'=cmd()" in {row["customer"] for row in parts["customer"]}
    assert staff.get(f"{PAGE}csv/colour/").status_code == 404


def test_customers_come_in_pages_and_in_the_order_asked_for(staff: Client, route: Route) -> None:
    set_prices()
    plan = version()
    for number in range(30):
        start(f"Customer {number:02}", plan).call(route, times=number + 1)
    first = page(staff, "?sort=calls")
    assert "1 to 25 of 30" in first
    assert first.index("Customer 29") < first.index("Customer 28")
    assert "Customer 03" not in first
    assert "Customer 03" in page(staff, "?sort=calls&page=2")
    last = page(staff, "?sort=calls&page=99")
    assert "26 to 30 of 30" in last
    assert "Next →" not in last
    assert "1 to 25" in page(staff, "?sort=colour&page=-1")


def test_a_closed_month_shows_what_was_charged(staff: Client, route: Route) -> None:
    set_prices()
    acme = start("Acme", version(), days=45)
    acme.call(route, times=12)
    ended = acme.period().ends_at
    roll_periods(at=now())
    month = f"?month={ended:%Y-%m}"
    assert "1 period of this month has no statement yet" in page(staff, month)
    finalise_due(at=now())
    shown = page(staff, month)
    assert "no statement yet" not in shown
    assert f"Billing periods that ended in {ended:%B %Y}" in shown
    assert [(row["revenue"], row["cost"]) for row in rows_of(staff, "customer", month)] == [("6.00", "1.2")]
    assert rows_of(staff, "customer")[0]["revenue"] == "5.00"


def test_without_prices_there_is_a_way_to_add_them(staff: Client, route: Route) -> None:
    start("Acme", version()).call(route)
    shown = page(staff)
    assert "No cost prices for USD yet" in shown
    assert "/admin/plans/costprices/add/" in shown
    assert "By customer" not in shown
    assert rows_of(staff, "customer") == []


def test_an_empty_installation(staff: Client, usage_redis: object) -> None:
    set_prices()
    shown = page(staff)
    assert "No period runs now in USD." in shown
    assert "Nobody called, and nobody was charged." in shown
    assert "No call was made in these periods." in shown


def test_one_currency_at_a_time(staff: Client, route: Route) -> None:
    set_prices()
    start("Acme", version()).call(route, times=2)
    assert 'name="currency"' not in page(staff)
    start("Gamma", version("EUR", "klein")).call(route, times=4)
    dollars, euros = page(staff), page(staff, "?currency=EUR")
    assert 'name="currency"' in dollars
    assert "Gamma" not in dollars
    assert "No cost prices for EUR yet" in euros
    set_prices("EUR")
    euros = page(staff, "?currency=EUR")
    assert "€5.00" in euros
    assert "€0.40" in euros
    assert "Acme" not in euros


def test_a_choice_that_is_not_there_is_what_runs_now(usage_redis: object) -> None:
    choices = revenue_choices(at=datetime(2026, 5, 1, tzinfo=UTC))
    for month in ("1999-01", "x", "2026-13", ""):
        assert (
            ask({"month": month, "currency": "XXX", "page": "²"}, choices).address()
            == "?month=running&currency=USD"
        )


def test_the_number_of_queries_does_not_grow(
    staff: Client, route: Route, django_assert_max_num_queries: Callable[[int], object]
) -> None:
    set_prices()
    plan = version()
    start("Customer 0", plan).call(route, times=2)
    page(staff)
    counts = []
    for more in (0, 29):
        for number in range(more):
            start(f"Customer {number + 1}", plan).call(route, times=2)
        with django_assert_max_num_queries(30) as context:  # type: ignore[attr-defined]
            page(staff)
        counts.append(len(context.captured_queries))
    assert counts[0] == counts[1]


def test_one_call_says_what_it_cost_to_serve_to_staff_alone(staff: Client, route: Route) -> None:
    set_prices()
    acme = start("Acme", version())
    calls = acme.call(route, times=12)
    shown = staff.get(f"/staff/calls/?find={calls[-1].id}").content.decode()
    assert "<dt>Cost to serve</dt><dd>$0.10</dd>" in shown
    assert "<dt>Margin</dt><dd>$0.40</dd>" in shown  # the twelfth call was sold at 0.50
    test = acme.call(route, mode="test")[0]
    assert "<dt>Margin</dt><dd>-$0.10</dd>" in staff.get(f"/staff/calls/?find={test.id}").content.decode()


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0.33333333", "$0.3333"), ("0.0000190164", "$0.00001902"), ("123.456", "$123.46"), ("-0.1", "-$0.10"),
        ("0", "$0.00"), (None, "–"),
    ],
)  # fmt: skip
def test_prices_of_a_call_have_four_digits_that_count(amount: str | None, shown: str) -> None:
    assert call_price(None if amount is None else Decimal(amount), "USD") == shown
