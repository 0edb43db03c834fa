"""Margins: figures worked out by hand, calls that nobody pays for, what is measured, and parts that add up to the whole."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.margin_report import MarginReport, cost_of_call, margin_report
from billing.margin_sql import REPORTED
from billing.margins import (
    Calls,
    CustomerCalls,
    Margin,
    RouteCalls,
    by_customer,
    by_plan,
    by_route,
    share_out,
    total,
)
from billing.statements import finalise_due, issue_credit_note, void_statement
from metering.models import UsageEvent
from metering.usage_corrections import correct_usage
from plans.models import CostPrices, PlanVersion, Route, RouteCost
from plans.services import roll_periods
from tests.billing.kit import START, Customer
from tests.factories import create_meter, create_plan, create_product, create_route

D = Decimal
MARCH = date(2026, 3, 1)
ENDED = datetime(2026, 3, 12, tzinfo=UTC)
PRICES = {
    "per_compute_ms": D("0.00001"), "per_memory_gb_second": D("0.001"), "per_kb_out": D("0.0001"),
    "per_third_party_call": D("0.01"),
}  # fmt: skip
SEARCH_CALL = D("0.001605")  # 10 ms, half a GB, 5 kB, every tenth asks somebody else
EXPORT_CALL = D("0.0063")  # as measured: 30 ms and 60 kB on average


class TestPure:
    def test_uncharged_calls_cost_too_and_stand_apart(self) -> None:
        rows = [
            CustomerCalls(1, 7, Calls(10, 2, 3), D("1.50"), D("0.50")),
            CustomerCalls(1, 8, Calls(1), D("0.1"), D(0)),
        ]
        found = by_customer(rows, {(1, 7, 0): 400, (1, 8, 5): 20, (2, 8, 0): 100}, "USD")
        assert found == {
            1: Margin("USD", Calls(11, 2, 3), D("1.60"), D("0.50"), 420),
            2: Margin("USD", Calls(), D(0), D(0), 100),
        }
        assert found[1].calls.free == 5
        assert found[1].margin == D("2.60")
        assert found[1].margin_minor == 260
        assert found[2].rate == 1

    @pytest.mark.parametrize(
        ("revenue", "cost", "thin"),
        [(300, "1", False), (299, "1", True), (0, "0.0001", True), (0, "0", False), (-5, "0", False)],
    )
    def test_thin_is_less_than_so_many_times_the_cost(self, revenue: int, cost: str, thin: bool) -> None:
        assert Margin("USD", cost=D(cost), revenue_minor=revenue).is_thin(3) is thin

    def test_no_rate_without_revenue(self) -> None:
        assert Margin("USD", cost=D(1)).rate is None
        assert Margin("USD", cost=D(1), revenue_minor=50).rate == -1

    def test_yen_have_no_minor_unit(self) -> None:
        assert Margin("JPY", cost=D("40.4"), revenue_minor=100).margin_minor == 60

    def test_prices_go_by_quantity_fees_by_charged_calls_the_rest_apart(self) -> None:
        rows = [
            RouteCalls(1, 5, Calls(12, 3, 5), D(24), D("0.2"), D("0.08")),  # two units a call
            RouteCalls(2, 5, Calls(4), D(4), D("0.1"), D(0)),
            RouteCalls(REPORTED, 6, Calls(), D(9), D(0), D(0)),
        ]
        found = by_route(
            rows, {(1, 7, 0): 1_600, (1, 7, 5): 280, (1, 7, 6): 90, (2, 7, 9): 11}, "USD", rest=REPORTED
        )
        assert {route: margin.revenue_minor for route, margin in found.items()} == {
            1: 1_440,
            2: 440,
            REPORTED: 101,
        }

    def test_a_fee_without_calls_stands_in_the_rest(self) -> None:
        assert by_route([], {(1, 7, 0): 500}, "USD", rest=REPORTED)[REPORTED].revenue_minor == 500

    @given(
        st.integers(-10_000_000, 10_000_000),
        st.dictionaries(st.integers(1, 50), st.decimals("0.000001", "1e9", places=6), min_size=1),
    )
    def test_shares_leave_no_rest_and_are_off_by_less_than_one(
        self, minor: int, weights: dict[int, Decimal]
    ) -> None:
        shared = share_out(minor, weights)
        assert sum(shared.values()) == minor
        whole = sum(weights.values(), D(0))
        assert all(abs(shared[key] - minor * weights[key] / whole) <= 1 for key in weights)

    @given(st.data())
    def test_parts_add_up_to_the_whole(self, data: st.DataObject) -> None:
        few = st.integers(0, 500)
        cost = st.decimals(0, 100, places=12)
        calls = st.builds(Calls, few, few, few)
        ids = st.integers(1, 4)
        customers = data.draw(st.lists(st.builds(CustomerCalls, ids, ids, calls, cost, cost)))
        routes = data.draw(
            st.lists(st.builds(RouteCalls, ids, ids, calls, st.decimals(-5, 500, places=3), cost, cost))
        )
        revenue = data.draw(
            st.dictionaries(st.tuples(ids, ids, st.integers(0, 5)), st.integers(-5_000, 50_000))
        )
        whole = total(by_plan(customers, revenue, "USD").values(), "USD")
        assert total(by_customer(customers, revenue, "USD").values(), "USD") == whole
        shared = total(by_route(routes, revenue, "USD", rest=REPORTED).values(), "USD")
        assert shared.revenue_minor == whole.revenue_minor == sum(revenue.values())
        assert shared.cost == sum((row.cost for row in routes), D(0))
        assert whole.cost == sum((row.cost for row in customers), D(0))


@pytest.fixture
def version(db: None) -> PlanVersion:
    return create_plan("small", fee_minor=500, included=D(10), unit_price=D("0.5"))


@pytest.fixture
def routes(db: None) -> tuple[Route, Route]:
    """Search says what it takes, export leaves all to be measured."""
    product = create_product()
    search, export = create_route(product, path="/search"), create_route(product, path="/export", position=1)
    RouteCost.objects.create(
        route=search, compute_ms=D(10), memory_mb=D(500), kb_out=D(5), third_party_calls=D("0.1")
    )
    CostPrices.objects.create(valid_from=START - timedelta(days=40), currency="USD", **PRICES)
    return search, export


@pytest.fixture
def acme(
    usage_redis: object, transactional_db: None, version: PlanVersion, routes: tuple[Route, Route]
) -> Customer:
    """12 searches and 2 exports charged: 5.00 and 4 × 0.50; 3 errors and 5 test calls not."""
    customer = Customer.start("Acme", version=version)
    search, export = routes
    customer.call(search, times=12, ms=999, kb_out=999)  # its own row says what it takes
    customer.call(search, times=3, status=502, reason="upstream_error")
    customer.call(search, times=5, mode="test")
    customer.call(export, ms=20, kb_out=40)
    customer.call(export, ms=40, kb_out=80)
    return customer


def running(at: datetime = START + timedelta(days=20)) -> MarginReport:
    return margin_report(month=None, currency="USD", at=at)


def closed(at: datetime = ENDED) -> MarginReport:
    return margin_report(month=MARCH, currency="USD", at=at)


def close(at: datetime = ENDED) -> None:
    roll_periods(at=at)
    finalise_due(at=at)


EXPECTED = Margin(
    "USD", Calls(14, 3, 5), 20 * SEARCH_CALL + 2 * EXPORT_CALL, 8 * SEARCH_CALL, 700
)  # 0.0447 and 0.01284


@pytest.mark.django_db(transaction=True)
class TestReport:
    def test_the_running_month_by_hand(self, acme: Customer, routes: tuple[Route, Route]) -> None:
        found = running()
        assert found.total == EXPECTED
        assert [(row.name, row.margin) for row in found.plans] == [("Small", EXPECTED)]
        assert [(row.name, row.public_id, row.margin) for row in found.customers] == [
            ("Acme", acme.organization.public_id, EXPECTED)
        ]
        export, search = sorted(found.routes, key=lambda row: row.label)
        assert (search.call.total, search.is_measured) == (SEARCH_CALL, False)
        assert (export.call.total, export.is_measured) == (EXPORT_CALL, True)
        assert (search.margin.revenue_minor, export.margin.revenue_minor) == (600, 100)
        assert (search.revenue_per_call, export.revenue_per_call) == (D("0.5"), D("0.5"))
        assert search.cost_per_charged == 20 * SEARCH_CALL / 12

    def test_a_closed_month_is_its_statements(self, acme: Customer) -> None:
        assert closed(START + timedelta(days=20)).total == Margin("USD")
        roll_periods(at=ENDED)
        before = closed()
        assert (before.total, before.unstated) == (EXPECTED, 1)
        finalise_due(at=ENDED)
        assert (closed().total, closed().unstated) == (EXPECTED, 0)
        assert running(ENDED).total == Margin("USD", revenue_minor=500)

    def test_a_credit_note_takes_revenue_off_and_a_void_statement_all(self, acme: Customer) -> None:
        close()
        statement = acme.organization.statements.get()
        issue_credit_note(statement=statement, amount_minor=150, reason="Outage", by=None, at=ENDED)
        assert closed().total.revenue_minor == 550
        other = Customer.start("Other", version=acme.subscription.version)
        close()
        void_statement(statement=other.organization.statements.get(), reason="Twice", by=None, at=ENDED)
        assert {row.name: row.margin.revenue_minor for row in closed().customers} == {"Acme": 550}

    def test_late_usage_counts_in_the_month_whose_calls_it_bills(
        self, acme: Customer, routes: tuple[Route, Route]
    ) -> None:
        close()
        acme.call(routes[0], times=2)
        april = datetime(2026, 4, 12, tzinfo=UTC)
        close(april)
        late = closed(april).total
        assert late.revenue_minor == 800
        assert late.calls == Calls(16, 3, 5)
        found = margin_report(month=date(2026, 4, 1), currency="USD", at=april).total
        assert found == Margin("USD", revenue_minor=500)

    def test_corrections_are_no_calls(self, acme: Customer, routes: tuple[Route, Route]) -> None:
        [first, second] = acme.call(routes[0], times=2)
        at = START + timedelta(days=20)
        correct_usage(first.id, quantity=D(4), reason="Counted one", by=None, at=at)
        correct_usage(second.id, quantity=None, reason="Ours", by=None, at=at)
        calls = running().total.calls
        assert calls == Calls(15, 4, 5)  # the void one was served, and is not charged any more
        assert running().total.cost == 22 * SEARCH_CALL + 2 * EXPORT_CALL
        assert running().total.revenue_minor == 500 + 50 * (14 + 4 - 10)

    def test_reported_usage_is_no_call_but_revenue(self, acme: Customer) -> None:
        acme.use(6)
        found = running()
        assert found.total.calls == EXPECTED.calls
        assert found.total.cost == EXPECTED.cost
        assert found.total.revenue_minor == 1_000
        rest = next(row for row in found.routes if not row.is_calls)
        assert (rest.route_id, rest.margin.revenue_minor, rest.revenue_per_call) == (REPORTED, 150, None)
        assert total((row.margin for row in found.routes), "USD") == found.total

    def test_an_open_bytes_column_alone_is_measured(
        self, acme: Customer, routes: tuple[Route, Route]
    ) -> None:
        RouteCost.objects.create(route=routes[1], compute_ms=D(100))
        export = next(row for row in running().routes if row.label.endswith("/export"))
        assert export.call.total == D("0.001") + D("0.006")
        assert export.is_measured

    def test_prices_are_those_of_the_months_end(self, acme: Customer) -> None:
        close()
        CostPrices.objects.create(
            valid_from=datetime(2026, 4, 1, tzinfo=UTC), currency="USD", per_kb_out=D(9)
        )
        assert closed(datetime(2026, 5, 1, tzinfo=UTC)).total.cost == EXPECTED.cost

    def test_another_currency_stands_by_itself(self, acme: Customer, routes: tuple[Route, Route]) -> None:
        euros = create_plan("euro", fee_minor=900, currency="EUR")
        gamma = Customer.start("Gamma", version=euros)
        gamma.call(routes[0], times=4)
        at = START + timedelta(days=20)
        assert running().total == EXPECTED
        assert margin_report(month=None, currency="EUR", at=at).prices is None
        CostPrices.objects.create(valid_from=START, currency="EUR", per_third_party_call=D(2))
        found = margin_report(month=None, currency="EUR", at=at).total
        assert found == Margin("EUR", Calls(4), D("0.8"), D(0), 900)

    def test_the_cost_of_one_call(self, acme: Customer, routes: tuple[Route, Route]) -> None:
        search = UsageEvent.objects.filter(route_id=routes[0].pk).first()
        export = UsageEvent.objects.filter(route_id=routes[1].pk, bytes_out=80_000).get()
        reported = UsageEvent.objects.get(id=acme.use(1).id)
        assert search is not None
        found = [cost_of_call(event, currency="USD") for event in (search, export, reported)]
        assert [cost.total if cost else None for cost in found] == [SEARCH_CALL, D("0.0084"), None]
        assert cost_of_call(search, currency="EUR") is None

    def test_the_number_of_queries_does_not_grow(
        self,
        acme: Customer,
        version: PlanVersion,
        routes: tuple[Route, Route],
        django_assert_num_queries: Callable[[int], object],
    ) -> None:
        for customers in (1, 12):
            for number in range(customers - 1):
                Customer.start(f"More {number}", version=version).call(routes[number % 2], times=2)
            with django_assert_num_queries(17):  # type: ignore[attr-defined]
                assert len(running().customers) == customers

    def test_a_meter_of_its_own_price(self, acme: Customer, routes: tuple[Route, Route]) -> None:
        """Calls on a meter without a price cost all the same."""
        free = create_route(
            routes[0].product, path="/free", position=2, meter=create_meter("free", unit="call")
        )
        RouteCost.objects.create(route=free, compute_ms=D(1), kb_out=D(0))
        acme.call(free, times=7)
        found = next(row for row in running().routes if row.label.endswith("/free"))
        assert found.margin.cost == D("0.00007")
        assert running().total.revenue_minor == 700
