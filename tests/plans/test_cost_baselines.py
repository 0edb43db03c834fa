"""What a call costs its owner, and warnings where a plan sells below a multiple of it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from plans.cost_baselines import (
    MeasuredCall,
    UnitCost,
    call_cost,
    cheapest_unit,
    find_cost_prices,
    free_units,
    margin_warnings,
    unit_costs,
    version_warnings,
)
from plans.models import CostPrices, RouteCost
from tests.factories import create_meter, create_product, create_route
from tests.plans.price_kit import component, meter, version_of

pytestmark = pytest.mark.django_db
AT = datetime(2026, 5, 1, tzinfo=UTC)
D = Decimal
PRICES = {
    "per_compute_ms": D("0.000002"), "per_memory_gb_second": D("0.0000167"),
    "per_kb_out": D("0.000001"), "per_third_party_call": D("0.005"),
}  # fmt: skip


def prices(**fields: object) -> CostPrices:
    return CostPrices.objects.create(**({"valid_from": AT, "currency": "USD"} | PRICES | fields))


def takes(**fields: object) -> RouteCost:
    return RouteCost(**fields)


def test_a_call_costs_its_parts() -> None:
    cost = call_cost(
        takes(compute_ms=D(120), memory_mb=D(512), kb_out=D(40), third_party_calls=D(1)), CostPrices(**PRICES)
    )
    assert cost.compute == D("0.00024")
    assert cost.memory == D("0.512") * D("0.12") * D("0.0000167")
    assert cost.bytes_out == D("0.00004")
    assert cost.third_party == D("0.005")
    assert cost.total == D("0.005281026048")


def test_what_is_left_open_is_as_measured() -> None:
    measured = MeasuredCall(compute_ms=D(50), kb_out=D(8))
    assert call_cost(takes(), CostPrices(**PRICES), measured).total == D("0.000108")
    assert call_cost(takes(compute_ms=D(0), kb_out=D(0)), CostPrices(**PRICES), measured).total == 0


def test_a_unit_costs_its_share_of_the_dearest_and_of_the_average_route() -> None:
    product, calls = create_product(), create_meter()
    cheap = create_route(product, path="/cheap", meter=calls)
    dear = create_route(product, path="/dear", meter=calls, units=D(2))
    rows = [
        RouteCost.objects.create(route=cheap, compute_ms=D(100)),
        RouteCost.objects.create(route=dear, compute_ms=D(600)),
    ]
    found = unit_costs(rows, prices())[calls.pk]
    assert (found.dearest, found.average, found.dearest_route) == (D("0.0006"), D("0.0004"), str(dear))


def test_the_cheapest_unit_of_each_model() -> None:
    calls = meter("calls")
    steps = (("10000", "0", "0"), ("100000", "0.001", "0"), (None, "0.0008", "0"))
    version = version_of(
        component(calls, model="graduated", tiers=steps),
        component(meter("a"), unit_price=D("0.002"), included=D(50)),
        component(meter("b"), model="package", unit_price=D(5), package_size=D(1000)),
        component(meter("c"), included=D(70)),
    )
    found = [(cheapest_unit(c), free_units(c)) for c in version.components.order_by("pk")]
    assert found == [(D("0.0008"), D(10_000)), (D("0.002"), D(50)), (D("0.005"), D(0)), (None, D(70))]


def test_a_price_below_the_multiple_is_warned_of() -> None:
    calls = create_meter()
    version = version_of(component(calls, unit_price=D("0.001"), included=D(0)), fee_minor=0)
    just = {calls.pk: UnitCost(D("0.001") / 3, D(0), "places/v1")}
    assert margin_warnings(version, {calls.pk: UnitCost(D("0.0003"), D(0), "places/v1")}, factor=3) == []
    assert margin_warnings(version, just, factor=3) == []
    (text,) = margin_warnings(version, {calls.pk: UnitCost(D("0.0005"), D(0), "places/v1")}, factor=3)
    assert text == (
        "api calls: a call is sold for as little as $0.001 and costs $0.0005 on places/v1 (2.0 times; wanted 3 times)."
    )


def test_a_fee_below_the_multiple_of_what_it_includes_is_warned_of() -> None:
    calls = create_meter()
    costs = {calls.pk: UnitCost(D("0.0005"), D("0.0005"), "places/v1")}
    version = version_of(component(calls, included=D(50_000), unit_price=D("0.01")), fee_minor=4900)
    (text,) = margin_warnings(version, costs, factor=3)
    assert text == (
        "What is included (50,000 calls) costs $25.00 a month to serve and is sold for $49.00 (2.0 times; wanted 3 times)."
    )
    yearly = version_of(
        component(calls, included=D(50_000), unit_price=D("0.01")), fee_minor=4900 * 12, interval="year"
    )
    assert len(margin_warnings(yearly, costs, factor=3)) == 1
    assert not margin_warnings(version_of(component(calls, included=D(9)), fee_minor=0), costs, factor=3)


def test_warnings_go_by_the_costs_of_the_moment_and_currency() -> None:
    route = create_route(create_product())
    RouteCost.objects.create(route=route, compute_ms=D(100), third_party_calls=D(1))
    version = version_of(component(route.meter, unit_price=D("0.001")), fee_minor=0)
    assert version_warnings(version, factor=3, at=AT) == []
    prices(per_third_party_call=D("0.0001"))
    assert version_warnings(version, factor=3, at=AT) == []
    prices(valid_from=AT + timedelta(days=1))
    assert len(version_warnings(version, factor=3, at=AT + timedelta(days=2))) == 1
    assert version_warnings(version, factor=3, at=AT) == []
    assert find_cost_prices("EUR", at=AT) is None
