"""What the door believes usage costs, against what rating says: never less, and the same where prices are representable."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.money import exponent
from plans.cap_table import GRAINS, LARGEST, LARGEST_CAP_MINOR, MeterTable, SpendLimit, compile_meter, spent
from plans.pricing import Terms, rate_period
from plans.tiers import PriceModel, PriceStep, UsagePrice, usage_tiers

METER = 7
NAMES = ("eu", "us", "asia")


def price(
    model: str = "included", included: str = "0", unit_price: str | None = None, **more: object
) -> UsagePrice:
    steps = tuple(
        PriceStep(None if end is None else Decimal(end), Decimal(each), Decimal(flat))
        for end, each, flat in more.pop("steps", ())  # type: ignore[attr-defined]
    )
    each = Decimal(unit_price) if unit_price is not None else None
    return UsagePrice("calls", "call", Decimal(included), each, PriceModel(model), steps, **more)  # type: ignore[arg-type]


def table_of(*prices: UsagePrice, decimals: int = 0, currency: str = "USD") -> MeterTable:
    return compile_meter(METER, decimals, currency, prices)


def rated(
    prices: tuple[UsagePrice, ...], units: tuple[int, ...], decimals: int, currency: str
) -> tuple[int, Fraction]:
    """Minor units by `rate_period`, and the exact amount in grains, of so many smallest units of each price."""
    quantities = [Decimal(n).scaleb(-decimals) for n in units]
    dimension = "region={}" if len(prices) > 1 else "{}"
    usage = {
        ("calls", dimension.format(name) if len(prices) > 1 else ""): q
        for name, q in zip(NAMES, quantities, strict=False)
    }
    total = rate_period(Terms("P", currency, 0, prices), usage, charge_fee=False).total_minor
    exact = sum(
        (
            Fraction(tier.amount)
            for p, q in zip(prices, quantities, strict=True)
            for tier in usage_tiers(p, q)
        ),
        Fraction(0),
    )
    return total, exact * 10 ** exponent(currency) * GRAINS


# --- single prices, by hand --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage_price", "units", "minor"),
    [
        (price(included="50000", unit_price="0.001"), 50_000, "0"),
        (price(included="50000", unit_price="0.001"), 50_001, "0.1"),
        (price("per_unit", unit_price="0.03"), 7, "21"),
        (price("graduated", steps=((10_000, "0", "0"), (100_000, "0.001", "0"), (None, "0.0008", "0"))), 150_000, "13000"),
        (price("graduated", steps=((10, "1", "5"), (None, "0.5", "2"))), 10, "1500"),
        (price("graduated", steps=((10, "1", "5"), (None, "0.5", "2"))), 11, "1750"),
        (price("package", "100", "5", package_size=Decimal(1000)), 100, "0"),
        (price("package", "100", "5", package_size=Decimal(1000)), 101, "500"),
        (price("package", "100", "5", package_size=Decimal(1000)), 1100, "500"),
        (price("package", "100", "5", package_size=Decimal(1000)), 1101, "1000"),
        (price("per_unit", unit_price="1", maximum_minor=250), 3, "250"),
        (price(included="10"), 999, "0"),
    ],
)  # fmt: skip
def test_one_price_is_compiled_exactly(usage_price: UsagePrice, units: int, minor: str) -> None:
    assert table_of(usage_price).exact(units) == Decimal(minor) * GRAINS


def test_a_volume_price_is_held_at_its_highest_cost_so_far() -> None:
    """10 for 10 units, 10.01 would be 5.005 at half the price: the door stays at 10 until 20 units."""
    table = table_of(price("volume", steps=((10, "1", "0"), (None, "0.5", "0"))))
    assert [table.exact(n) // GRAINS for n in (9, 10, 11, 20, 21, 40)] == [900, 1000, 1000, 1000, 1050, 2000]


def test_currencies_without_and_with_three_decimals() -> None:
    each = price("per_unit", unit_price="2")
    assert table_of(each, currency="JPY").exact(3) == 6 * GRAINS
    assert table_of(each, currency="KWD").exact(3) == 6_000 * GRAINS


def test_a_price_finer_than_a_grain_is_rounded_up() -> None:
    table = table_of(price("per_unit", unit_price="0.000000000001"))
    assert [table.exact(n) for n in (1, 1000, 1001)] == [1, 1, 2]


def test_bytes_of_a_price_by_the_gigabyte() -> None:
    table = table_of(price("per_unit", unit_price="0.05"), decimals=9)
    assert table.exact(10**9) == 5 * GRAINS
    assert table.exact(10**9 + 1) == 5 * GRAINS + 1


@pytest.mark.parametrize("amount", [-1, LARGEST_CAP_MINOR + 1])
def test_a_cap_has_to_be_countable(amount: int) -> None:
    with pytest.raises(ValueError, match="a cap is"):
        SpendLimit(amount, ())


def test_what_cannot_be_counted_costs_more_than_every_cap() -> None:
    dear = table_of(price("per_unit", unit_price="999999999999"))
    assert dear.exact(2) == LARGEST
    assert SpendLimit(LARGEST_CAP_MINOR, (dear,)).is_passed({METER: 2})
    assert not SpendLimit(0, (dear,)).is_passed({METER: 0})


# --- any prices --------------------------------------------------------------------------------------------------

FINE = st.decimals(0, 100, places=12)  # what the catalogue can hold
WHOLE = st.integers(0, 5_000).map(
    lambda n: Decimal(n).scaleb(-3)
)  # a whole number of grains for each smallest unit
LARGE = st.integers(0, 30_000)


@st.composite
def any_price(draw: st.DrawFn, prices: st.SearchStrategy[Decimal], name: str = "") -> UsagePrice:
    model = draw(st.sampled_from(list(PriceModel)))
    ends = sorted(draw(st.sets(st.integers(1, 5_000), max_size=4)))
    steps = tuple(
        PriceStep(None if end is None else Decimal(end), draw(prices), draw(prices)) for end in (*ends, None)
    )
    stepped = model in (PriceModel.GRADUATED, PriceModel.VOLUME)
    return UsagePrice(
        "calls",
        "call",
        Decimal(draw(st.sampled_from([0, 0, 100, 2_500]))),
        None if stepped else draw(prices),
        model,
        steps if stepped else (),
        Decimal(draw(st.sampled_from([1, 7, 1000]))),
        draw(st.sampled_from([None, None, None, 500, 40_000])),
        (("region", name),) if name else (),
    )


def _held(usage_price: UsagePrice) -> bool:
    """Prices that fall with the quantity are held at their highest cost: the door is then above the line, on purpose."""
    return usage_price.model == PriceModel.VOLUME


@settings(max_examples=400, deadline=None)
@given(any_price(FINE), LARGE, st.sampled_from([0, 0, 3, 9]), st.sampled_from(["USD", "JPY", "KWD"]))
def test_the_door_never_believes_less_than_the_line(
    usage_price: UsagePrice, units: int, decimals: int, currency: str
) -> None:
    units *= 10 ** max(0, decimals - 3)
    line, exact = rated((usage_price,), (units,), decimals, currency)
    table = table_of(usage_price, decimals=decimals, currency=currency)
    limit = usage_price.maximum_minor
    believed = min(
        line * GRAINS, LARGEST // GRAINS * GRAINS
    )  # beyond it nothing is counted, and no cap lies there
    assert table.exact(units) >= min(
        LARGEST, exact if limit is None else min(exact, Fraction(limit * GRAINS))
    )
    assert table.rounded(units) >= believed
    assert spent([table], {METER: units}) >= believed


@settings(max_examples=400, deadline=None)
@given(any_price(WHOLE), LARGE, st.sampled_from([0, 3]))
def test_where_prices_are_whole_grains_door_and_line_are_one_number(
    usage_price: UsagePrice, units: int, decimals: int
) -> None:
    line, exact = rated((usage_price,), (units,), decimals, "USD")
    table = table_of(usage_price, decimals=decimals)
    if not _held(usage_price):
        assert table.rounded(units) == line * GRAINS
        assert spent([table], {METER: units}) - line * GRAINS <= GRAINS // 2


@settings(max_examples=200, deadline=None)
@given(any_price(FINE), LARGE, LARGE)
def test_more_usage_never_costs_less_at_the_door(usage_price: UsagePrice, one: int, other: int) -> None:
    table = table_of(usage_price)
    low, high = sorted((one, other))
    assert table.exact(low) <= table.exact(high) + 1  # a grain: pieces are rounded up each by itself


@settings(max_examples=300, deadline=None)
@given(
    st.tuples(*[any_price(FINE, name) for name in NAMES]),
    st.tuples(LARGE, LARGE, LARGE),
    st.sampled_from(["USD", "JPY"]),
)
def test_prices_by_dimension_are_bounded_for_any_split(
    prices: tuple[UsagePrice, ...], units: tuple[int, int, int], currency: str
) -> None:
    lines, exact = rated(prices, units, 0, currency)
    table = table_of(*prices, currency=currency)
    assert spent([table], {METER: sum(units)}) >= lines * GRAINS
    if not any(p.maximum_minor for p in prices):
        assert table.exact(sum(units)) >= exact


def test_two_prices_by_region_are_taken_at_the_dearer() -> None:
    eu = price("per_unit", unit_price="0.02", match=(("region", "eu"),))
    us = price("per_unit", unit_price="0.03", match=(("region", "us"),))
    assert table_of(eu, us).exact(10) == 30 * GRAINS
