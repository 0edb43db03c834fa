"""Costs against providers' published examples, and bounds that no call passes."""

from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from plans.token_prices import INPUT_KINDS, KINDS, NANO, OUTPUT_KINDS, TokenPrices, prices_at

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
