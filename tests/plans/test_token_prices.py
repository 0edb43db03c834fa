"""Costs against providers' published examples, and bounds that no call passes."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plans.token_prices import (
    INPUT_KINDS,
    KINDS,
    NANO,
    OUTPUT_KINDS,
    Pictures,
    TokenPrices,
    check_picture_prices,
    prices_at,
)

JUNE, JULY = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)


def prices(
    markup: str = "0", per_call: str = "0", starts_at: datetime = JUNE, above: int = 0, **kinds: str
) -> TokenPrices:
    per_million = {kind: Decimal(price) for kind, price in ({"input": "2.5", "output": "10"} | kinds).items()}
    return TokenPrices(1, starts_at, "USD", per_million, Decimal(per_call), Decimal(markup), above)


def test_a_chat_of_three_kinds() -> None:
    """gpt-4o: 2.50 of a million in, 1.25 cached, 10.00 out: 86 + 1,920 + 300 tokens."""
    listed = prices(cached_input="1.25")
    assert listed.cost({"input": 86, "cached_input": 1920, "output": 300}) == Decimal("0.005615000")


def test_a_kind_without_a_price_costs_what_its_family_does() -> None:
    assert prices().cost({"reasoning": 1_000_000, "cached_input": 1_000_000}) == Decimal("12.5")


def test_markup_and_the_price_of_a_call() -> None:
    assert prices(markup="0.25", per_call="0.01").cost({"input": 1_000_000}) == Decimal("3.1375")


def test_rounded_half_up_at_nine_decimals_and_bounds_up() -> None:
    fine = prices(input="0.0005")
    assert fine.cost({"input": 1}) == Decimal("0.000000001")
    assert prices(input="0.0004").cost({"input": 1}) == 0
    assert prices(input="0.0004", output="0").most(input_tokens=1, output_tokens=0) == Decimal("0.000000001")


def test_the_newest_row_that_has_begun_and_fits() -> None:
    rows = [prices(), prices(starts_at=JULY), prices(starts_at=JULY, above=200_000, input="5")]
    assert prices_at(rows, at=datetime(2026, 5, 31, tzinfo=UTC)) is None
    assert prices_at(rows, at=JUNE) is rows[0]
    assert prices_at(rows, at=JULY, input_tokens=200_000) is rows[1]
    assert prices_at(rows, at=JULY, input_tokens=200_001) is rows[2]


def test_lines_add_up_to_the_cost() -> None:
    listed, tokens = (
        prices(cached_input="1.25", markup="0.1"),
        {"input": 86, "cached_input": 1920, "output": 300},
    )
    amounts = [amount for *_, amount in listed.lines(tokens)]
    assert sum(amounts, Decimal(0)).quantize(NANO) == listed.cost(tokens)
    assert [kind for kind, *_ in listed.lines(tokens)] == ["input", "cached_input", "output"]


PRICES = st.decimals("0", "500", places=6).map(str)
ROWS = st.builds(
    prices,
    markup=st.decimals("0", "3", places=4).map(str),
    per_call=st.decimals("0", "1", places=9).map(str),
    **dict.fromkeys(KINDS, PRICES),
)


@given(ROWS, st.dictionaries(st.sampled_from(KINDS), st.integers(0, 10**6)))
def test_no_split_into_kinds_costs_more_than_the_bound(listed: TokenPrices, tokens: dict[str, int]) -> None:
    most = listed.most(
        input_tokens=sum(tokens.get(kind, 0) for kind in INPUT_KINDS),
        output_tokens=sum(tokens.get(kind, 0) for kind in OUTPUT_KINDS),
    )
    assert 0 <= listed.cost(tokens) <= most


def test_an_hour_in_a_cache_has_a_price_of_its_own() -> None:
    """Claude Sonnet: 3.00 in, 3.75 for five minutes in a cache, 6.00 for an hour."""
    tokens = {"input": 1_000_000, "cache_write": 1_000_000, "cache_write_1h": 1_000_000}
    assert prices(input="3", cache_write="3.75", cache_write_1h="6").cost(tokens) == Decimal("12.75")
    assert prices(input="3", cache_write="3.75").cost(tokens) == Decimal("10.5")
    assert prices(input="3").cost(tokens) == 9


DALL_E = {
    "standard/1024x1024": "0.04", "standard/*": "0.08", "hd/1024x1024": "0.08", "*/1792x1024": "0.1", "hd/1024x1792": "0.12",
}  # fmt: skip


def drawing(listed: dict[str, str] = DALL_E, markup: str = "0") -> TokenPrices:
    own = {name: Decimal(price) for name, price in listed.items()}
    return replace(prices(markup=markup, input="0", output="0"), per_picture=own)


@pytest.mark.parametrize(
    ("quality", "size", "price"),
    [
        ("standard", "1024x1024", "0.04"), ("standard", "512x512", "0.08"), ("hd", "1024x1792", "0.12"),
        ("hd", "1792x1024", "0.1"), ("hd", "9x9", "0.12"), ("", "", "0.12"), ("", "1792x1024", "0.1"),
    ],
)  # fmt: skip
def test_a_picture_costs_what_its_quality_and_size_do(quality: str, size: str, price: str) -> None:
    assert drawing().cost({}, Pictures(3, quality, size)) == 3 * Decimal(price)
    assert drawing(markup="0.5").cost({}, Pictures(1, quality, size)) == Decimal(price) * Decimal("1.5")


def test_without_prices_pictures_are_free() -> None:
    assert drawing({}).cost({"input": 5}, Pictures(3, "hd", "1x1")) == 0


NAMES = st.sampled_from(["", "hd", "standard", "1x1", "2x2"])
LISTS = st.dictionaries(
    st.builds(lambda q, s: f"{q or '*'}/{s or '*'}", NAMES, NAMES), st.decimals("0", "1", places=6).map(str)
)


@given(LISTS, NAMES, NAMES, NAMES, NAMES, st.integers(0, 10))
def test_no_picture_costs_more_than_the_bound(
    listed: dict[str, str], quality: str, size: str, told: str, told_size: str, count: int
) -> None:
    """Whatever the answer tells of what the request left open."""
    most = drawing(listed).most(input_tokens=0, output_tokens=0, pictures=Pictures(count, quality, size))
    assert drawing(listed).cost({}, Pictures(count, quality or told, size or told_size)) <= most


@pytest.mark.parametrize(
    "given", [[], "x", {"hd": "1"}, {"hd/1x1": 0.5}, {"hd/1x1": "-1"}, {"hd/1x1": "1e3"}, {"a/b/c": "1"}, {"/": "1"}]
)  # fmt: skip
def test_prices_of_pictures_are_checked(given: object) -> None:
    with pytest.raises(ValueError, match="quotes|quality/size|object"):
        check_picture_prices(given)
    check_picture_prices(DALL_E)
