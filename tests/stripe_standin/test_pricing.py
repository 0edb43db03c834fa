"""The arithmetic of prices by itself."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stripe_standin import pricing
from stripe_standin.shapes import new

MONTHLY = {"interval": "month", "interval_count": 1}


def price(**fields: Any) -> dict[str, Any]:
    return new("price", currency="usd", recurring=MONTHLY, type="recurring") | fields


def tier(up_to: int | None, unit: str, flat: str | None = None) -> dict[str, Any]:
    return {"up_to": up_to, "unit_amount_decimal": unit, "flat_amount_decimal": flat}


def tiered(mode: str, *tiers: dict[str, Any]) -> dict[str, Any]:
    return price(billing_scheme="tiered", tiers_mode=mode, _tiers=list(tiers))


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("0.1", "usd", "$0.001"),
        (4900, "usd", "$49.00"),
        (-350, "eur", "-€3.50"),
        (500, "jpy", "¥500"),
        ("0.5", "jpy", "¥0.5"),
        (1_234_567, "chf", "CHF 12,345.67"),
        (1_234, "kwd", "KWD 1.234"),
    ],
)
def test_money(amount: int | str, currency: str, text: str) -> None:
    assert pricing.money(amount, currency) == text


def test_graduated_charges_each_part_at_its_own_price() -> None:
    found = pricing.charges(
        tiered("graduated", tier(100, "10"), tier(200, "5.5", "300"), tier(None, "0.1")), 250
    )
    assert [(each.quantity, each.amount) for each in found] == [(100, 1000), (100, 550), (0, 300), (50, 5)]


def test_volume_charges_all_at_one_price() -> None:
    tiers = (tier(100, "10"), tier(None, "4", "50"))
    assert pricing.total(tiered("volume", *tiers), 100) == 1000
    assert pricing.total(tiered("volume", *tiers), 101) == 454


@pytest.mark.parametrize(
    ("round_to", "quantity", "amount"), [("up", 1001, 1000), ("down", 1999, 500), ("up", 0, 0)]
)
def test_packages(round_to: str, quantity: int, amount: int) -> None:
    sold = price(unit_amount_decimal="500", transform_quantity={"divide_by": 1000, "round": round_to})
    assert pricing.total(sold, quantity) == amount


def test_halves_go_up_line_by_line() -> None:
    sold = tiered("graduated", tier(1, "0.5"), tier(None, "0.5"))
    assert [each.amount for each in pricing.charges(sold, 2)] == [1, 1]
    assert pricing.charges(sold, 0)[0].words == "Tier 1 at $0.005 / month"
    assert pricing.total(sold, -5) == 0


@given(
    st.integers(0, 10**7),
    st.integers(1, 10**6),
    st.decimals("0", "100", places=4),
    st.decimals("0", "100", places=4),
)
def test_graduated_is_the_sum_of_its_parts(quantity: int, bound: int, low: Decimal, high: Decimal) -> None:
    below, above = min(quantity, bound), max(quantity - bound, 0)
    expected = pricing.half_up(low * below) + pricing.half_up(high * above)
    assert (
        pricing.total(tiered("graduated", tier(bound, str(low)), tier(None, str(high))), quantity) == expected
    )


@given(
    st.integers(0, 2 * 10**9),
    st.integers(0, 10**8),
    st.sampled_from(["day", "week", "month", "year"]),
    st.integers(1, 6),
)
def test_a_moment_lies_in_its_period(anchor: int, later: int, interval: str, count: int) -> None:
    start, end = pricing.period_after(anchor, {"interval": interval, "interval_count": count}, anchor + later)
    assert start <= anchor + later < end
    assert pricing.period_after(anchor, {"interval": interval, "interval_count": count}, end)[0] == end
