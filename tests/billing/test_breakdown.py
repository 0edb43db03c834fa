"""Parts of a line add up to its tiers, exactly, for every pricing model, any usage and any order."""

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.breakdown import Breakdown, Share, add_shares
from plans.pricing import PriceModel, PriceStep, UsagePrice, usage_line
from plans.tiers import EXACT, ZERO
from tests.plans.test_pricing_properties import CURRENCIES, any_prices

steps_of_usage = st.lists(
    st.one_of(
        st.integers(-1_000, 10**6).map(Decimal),
        st.decimals(min_value=-(10**6), max_value=10**12, places=9),
    ),
    max_size=12,
)


@given(any_prices, steps_of_usage, st.sampled_from(CURRENCIES))
def test_the_parts_add_up_to_every_tier(price: UsagePrice, steps: list[Decimal], currency: str) -> None:
    with localcontext(EXACT):
        short = sum(steps, ZERO)
    steps = [*steps, -short] if short < 0 else steps  # corrections never make a period's usage negative
    with localcontext(EXACT):
        used = sum(steps, ZERO)
    breakdown = Breakdown.of(price, used, currency)
    parts = breakdown.split(steps)
    assert breakdown.tiers == usage_line(price, used, currency).tiers
    for number, tier in enumerate(breakdown.tiers):
        assert add_shares([part[number] for part in parts]) == Share(tier.quantity, tier.amount)


@given(any_prices, st.lists(st.integers(0, 10**6).map(Decimal), min_size=2, max_size=8), st.data())
def test_calls_of_an_hour_add_up_to_the_hour(
    price: UsagePrice, calls: list[Decimal], data: st.DataObject
) -> None:
    """Hours are told apart anywhere: what an hour comes to does not depend on how it is cut into calls."""
    first = data.draw(st.integers(0, len(calls)))
    total = sum(calls, ZERO)
    breakdown = Breakdown.of(price, total, "USD")
    before = sum(calls[:first], ZERO)
    each = breakdown.split(calls)[first:]
    for number, hour in enumerate(breakdown.between(before, total)):
        assert add_shares([call[number] for call in each]) == hour


def price(model: PriceModel, *, included: int = 0, **more: object) -> UsagePrice:
    each = None if model in (PriceModel.GRADUATED, PriceModel.VOLUME) else Decimal("0.5")
    return UsagePrice("calls", "call", Decimal(included), each, model, **more)  # type: ignore[arg-type]


STEPS = (PriceStep(Decimal(10), Decimal(1), Decimal(3)), PriceStep(None, Decimal("0.5"), Decimal(2)))


@pytest.mark.parametrize(
    ("sold", "amounts"),
    [
        # Ten included, then 0.50 each.
        (price(PriceModel.PER_UNIT, included=10), ["0", "0", "4.0"]),
        # The first reaches the first tier (3), the third the second (2); a unit costs what its own tier says.
        (price(PriceModel.GRADUATED, steps=STEPS), ["8", "5", "6.0"]),
        # 18 units reach the second tier: each at its price, its flat price on the first.
        (price(PriceModel.VOLUME, steps=STEPS), ["4.5", "2.5", "4.0"]),
        # Packages of four: begun with 1, 5 (in the first hour), 9 (the second) and 13, 17 (the third).
        (price(PriceModel.PACKAGE, package_size=Decimal(4)), ["1.0", "0.5", "1.0"]),
        # At most 6: two units of the last hour are free.
        (price(PriceModel.PER_UNIT, maximum_minor=600), ["2.5", "2.5", "1.0"]),
    ],
)
def test_worked_examples(sold: UsagePrice, amounts: list[str]) -> None:
    """Hours of 5, 5 and 8 calls (docs/explain.md)."""
    parts = Breakdown.of(sold, Decimal(18), "USD").split([Decimal(5), Decimal(5), Decimal(8)])
    assert [add_shares(part).amount for part in parts] == [Decimal(amount) for amount in amounts]


def test_a_correction_downwards_takes_back_what_was_begun() -> None:
    sold = price(PriceModel.PER_UNIT, included=10)
    parts = Breakdown.of(sold, Decimal(11), "USD").split([Decimal(14), Decimal(-5), Decimal(2)])
    assert [add_shares(part).amount for part in parts] == [Decimal("2.0"), Decimal("-2.0"), Decimal("0.5")]
