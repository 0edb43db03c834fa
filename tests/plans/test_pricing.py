from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.money import to_minor
from plans.pricing import Terms, UsagePrice, rate_period, usage_tiers

STARTER = Terms("Starter", "USD", 4900, (UsagePrice("api_calls", "call", Decimal(50_000), Decimal("0.001")),))
FREE = Terms("Free", "USD", 0, (UsagePrice("api_calls", "call", Decimal(1_000), None),))

quantities = st.decimals(min_value=0, max_value=10**9, places=6)
prices = st.decimals(min_value=0, max_value=10, places=9)


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


@given(quantities, quantities, prices)
def test_more_usage_never_costs_less(one: Decimal, other: Decimal, price: Decimal) -> None:
    terms = Terms("T", "USD", 0, (UsagePrice("m", "unit", Decimal(100), price),))
    low, high = sorted((one, other))
    assert (
        rate_period(terms, {("m", ""): low}).total_minor <= rate_period(terms, {("m", ""): high}).total_minor
    )


@given(quantities, prices, quantities)
def test_tiers_add_up_to_the_quantity_and_to_the_line(
    used: Decimal, price: Decimal, included: Decimal
) -> None:
    usage = UsagePrice("m", "unit", included, price)
    tiers = usage_tiers(usage, used)
    (line,) = rate_period(Terms("T", "USD", 0, (usage,)), {("m", ""): used}, charge_fee=False).lines
    assert sum(tier.quantity for tier in tiers) == used
    assert line.amount_minor == to_minor(sum((tier.amount for tier in tiers), Decimal(0)), "USD")


@given(st.dictionaries(st.tuples(st.sampled_from("abcd"), st.just("")), quantities), prices)
def test_lines_add_up_to_the_total(usage: dict[tuple[str, str], Decimal], price: Decimal) -> None:
    terms = Terms("T", "USD", 999, tuple(UsagePrice(m, "unit", Decimal(10), price) for m in "abcd"))
    rated = rate_period(terms, usage)
    assert rated.total_minor == sum(line.amount_minor for line in rated.lines)
