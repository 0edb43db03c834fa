from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from plans.dimensions import canonical, in_words, match_text, values_of
from plans.pricing import (
    PriceModel,
    PriceStep,
    Terms,
    UsagePrice,
    price_faults,
    rate_period,
    usage_line,
    usage_tiers,
)

STARTER = Terms("Starter", "USD", 4900, (UsagePrice("api_calls", "call", Decimal(50_000), Decimal("0.001")),))
FREE = Terms("Free", "USD", 0, (UsagePrice("api_calls", "call", Decimal(1_000), None),))


@pytest.mark.parametrize(
    ("calls", "total_minor"),
    [
        ("0", 4900),
        ("50000", 4900),
        ("50001", 4900),  # 0.001 rounds to nothing
        ("50005", 4901),  # 0.005 rounds up: half up
        ("50004.999", 4900),
        ("120000", 11900),
        ("1000000", 99900),
    ],
)
def test_starter_costs_its_fee_and_its_overage(calls: str, total_minor: int) -> None:
    assert rate_period(STARTER, {("api_calls", ""): Decimal(calls)}).total_minor == total_minor


def test_lines_say_what_they_are() -> None:
    rated = rate_period(STARTER, {("api_calls", ""): Decimal(60_000)})
    fee, usage = rated.lines
    assert (fee.text, fee.meter, fee.amount_minor) == ("Starter", "", 4900)
    assert (usage.meter, usage.quantity, usage.amount_minor) == ("api_calls", Decimal(60_000), 1000)
    assert [(t.start, t.end, t.quantity, t.unit_price) for t in usage.tiers] == [
        (Decimal(0), Decimal(50_000), Decimal(50_000), Decimal(0)),
        (Decimal(50_000), None, Decimal(10_000), Decimal("0.001")),
    ]


def test_a_trial_has_no_fee() -> None:
    assert rate_period(STARTER, {("api_calls", ""): Decimal(10)}, charge_fee=False).total_minor == 0


def test_what_is_not_sold_costs_nothing() -> None:
    assert rate_period(FREE, {("api_calls", ""): Decimal(2_000)}).total_minor == 0


def test_a_meter_without_usage_still_has_its_line() -> None:
    assert rate_period(STARTER, {}).lines[1].quantity == 0


def test_negative_usage_is_refused() -> None:
    with pytest.raises(ValueError, match="negative usage of api_calls"):
        rate_period(STARTER, {("api_calls", ""): Decimal(-1)})


CLOUD = Terms(
    "Cloud",
    "USD",
    0,
    (
        UsagePrice("compute", "hour", Decimal(0), Decimal(1), PriceModel.PER_UNIT),
        UsagePrice("compute", "hour", Decimal(0), Decimal(2), PriceModel.PER_UNIT, match=(("region", "eu"),)),
        UsagePrice(
            "compute", "hour", Decimal(0), Decimal(3), PriceModel.PER_UNIT,
            match=(("model", "50%;a=b"), ("region", "eu")), text="Large in Europe",
        ),
        UsagePrice("egress", "GB", Decimal(0), Decimal(5), PriceModel.PER_UNIT, match=(("to", ""),)),
    ),
)  # fmt: skip


def test_the_most_specific_price_takes_a_quantity_and_adds_what_falls_to_it() -> None:
    usage = {
        ("compute", "model=small;region=eu"): Decimal(10),
        ("compute", "model=large;region=eu"): Decimal(20),
        ("compute", "model=50%25%3Ba%3Db;region=eu"): Decimal(40),
        ("compute", "model=small;region=us"): Decimal(80),
        ("compute", ""): Decimal(160),
    }
    lines = rate_period(CLOUD, usage, charge_fee=False).lines
    assert [(line.text, line.quantity, line.amount_minor) for line in lines] == [
        ("compute", 240, 240_00),
        ("compute (eu)", 30, 60_00),
        ("Large in Europe", 40, 120_00),
        ("egress (none)", 0, 0),
    ]
    assert lines[2].dimension == "model=50%25%3Ba%3Db;region=eu"


def test_the_order_of_prices_does_not_matter_where_one_is_more_specific() -> None:
    other_way = replace(CLOUD, usage=CLOUD.usage[::-1])
    for model in ("small", "50%25%3Ba%3Db"):
        measured = ("compute", f"model={model};region=eu")
        assert other_way.taker(measured) == 3 - (CLOUD.taker(measured) or 0)


def test_usage_that_no_price_of_its_meter_matches_is_shown_and_not_charged() -> None:
    usage = {("egress", "to=internet"): Decimal(7), ("egress", "to="): Decimal(1), ("other", ""): Decimal(3)}
    usage["egress", "to=nowhere"] = Decimal(0)
    rated = rate_period(CLOUD, usage, charge_fee=False)
    line = rated.lines[-1]
    assert (line.text, line.unit, line.quantity, line.amount_minor) == (
        "egress (internet): no price, not charged", "GB", 7, 0,
    )  # fmt: skip
    assert (rated.total_minor, len(rated.lines)) == (5_00, 5)
    with pytest.raises(ValueError, match="negative usage of egress"):
        rate_period(CLOUD, {("egress", "to=internet"): Decimal(-1)})


def test_a_maximum_is_a_tier_of_its_line() -> None:
    price = UsagePrice("m", "unit", Decimal(10), Decimal("0.333"), maximum_minor=100)
    line = usage_line(price, Decimal(20), "USD")
    assert line.amount_minor == 100
    assert [(t.quantity, t.amount, t.flat) for t in line.tiers] == [
        (10, 0, 0),
        (10, Decimal("3.33"), 0),
        (0, Decimal("-2.33"), Decimal("-2.33")),
    ]


def test_a_minimum_counts_usage_and_not_the_fee() -> None:
    terms = replace(STARTER, minimum_minor=25_00)
    rated = rate_period(terms, {("api_calls", ""): Decimal(60_000)})
    assert [(line.kind, line.amount_minor) for line in rated.lines] == [
        ("fee", 49_00), ("usage", 10_00), ("minimum", 15_00),
    ]  # fmt: skip
    assert rate_period(terms, {}, charge_minimum=False).total_minor == 49_00


def test_amounts_of_all_digits_are_exact() -> None:
    price = UsagePrice("m", "unit", Decimal(0), Decimal("999999999999.999999999999"))
    (tier,) = usage_tiers(price, Decimal("999999999999999.999999999"))
    assert tier.amount == Decimal("999999999999999999999998000.000000000000000000001")
    assert usage_line(price, Decimal("999999999999999.999999999"), "USD").amount_minor == 10**29 - 200_000


@pytest.mark.parametrize(
    ("model", "steps"),
    [
        (PriceModel.GRADUATED, ()),
        (PriceModel.VOLUME, ()),
        (PriceModel.PER_UNIT, ()),
        (PriceModel.PACKAGE, ()),
    ],
)
def test_a_draft_without_prices_costs_nothing(model: PriceModel, steps: tuple[PriceStep, ...]) -> None:
    price = UsagePrice("m", "unit", Decimal(1), None, model, steps)
    assert usage_line(price, Decimal(5), "USD").amount_minor == 0
    assert price_faults(price)


@pytest.mark.parametrize("model", [PriceModel.GRADUATED, PriceModel.VOLUME])
def test_the_last_step_is_open_whatever_it_says(model: PriceModel) -> None:
    price = UsagePrice("m", "unit", Decimal(0), None, model, (PriceStep(Decimal(10), Decimal(2)),))
    assert usage_line(price, Decimal(15), "USD").amount_minor == 30_00
    assert price_faults(price) == ("The last tier, and only the last, is open.",)


def step(up_to: int | None, each: int, flat: int = 0) -> PriceStep:
    return PriceStep(None if up_to is None else Decimal(up_to), Decimal(each), Decimal(flat))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"included": Decimal(-1)}, "0 or more"),
        ({"package_size": Decimal(0)}, "larger than 0"),
        ({"unit_price": Decimal(-1)}, "0 or more"),
        ({"model": PriceModel.PACKAGE, "unit_price": None}, "price per unit or package is missing"),
        ({"steps": (step(None, 1),)}, "Only graduated and volume prices"),
        ({"model": PriceModel.VOLUME, "steps": (step(None, 1), step(None, 1))}, "only the last, is open"),
        ({"model": PriceModel.VOLUME, "steps": (step(5, 1), step(5, 1), step(None, 1))}, "ends above"),
        ({"model": PriceModel.GRADUATED, "steps": (step(0, 1), step(None, 1))}, "ends above"),
        ({"model": PriceModel.GRADUATED, "steps": (step(5, 1, -1), step(None, 1))}, "Prices of tiers"),
    ],
)
def test_faults_of_a_price_are_named(changes: dict[str, Any], fault: str) -> None:
    price = replace(UsagePrice("m", "unit", Decimal(0), Decimal(1)), **changes)
    assert any(fault in found for found in price_faults(price))


def test_what_takes_a_quantity_is_forgotten_before_it_fills_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("plans.pricing._MEMO_LIMIT", 2)
    terms = replace(CLOUD)
    for number in range(5):
        assert terms.taker(("compute", f"model={number}")) == 0
        assert len(terms.takers) <= 2


def test_dimension_texts_are_read_back() -> None:
    names = ["region", "a=b;c%"]
    text = canonical(names, {"region": "eu;1=%", "a=b;c%": 3, "other": "x"})
    assert values_of(text) == {"region": "eu;1=%", "a=b;c%": "3"}
    assert match_text(values_of(text).items()) == text
    assert canonical(names, {"region": True}) == "region=true;a%3Db%3Bc%25="
    assert (canonical([], {"region": "eu"}), values_of("")) == ("", {})
    assert in_words(text) == "eu;1=%, 3"
    with pytest.raises(ValueError, match="not a dimension text"):
        values_of("eu")
