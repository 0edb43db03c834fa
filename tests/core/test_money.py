from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.money import Money, format_money, to_major, to_minor


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("1.005", "USD", 101),  # half up, not to even
        ("1.004999999999", "USD", 100),
        ("-1.005", "USD", -101),
        ("0.5", "JPY", 1),
        ("1234", "JPY", 1234),
        ("1.0005", "KWD", 1001),
        ("0", "EUR", 0),
    ],
)
def test_amounts_round_half_up_to_the_minor_unit(amount: str, currency: str, minor: int) -> None:
    assert to_minor(Decimal(amount), currency) == minor


@given(st.integers(min_value=-(10**15), max_value=10**15), st.sampled_from(["USD", "JPY", "KWD"]))
def test_minor_units_survive_the_way_to_major_and_back(minor: int, currency: str) -> None:
    assert to_minor(to_major(minor, currency), currency) == minor


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (104900, "USD", "$1,049.00"),
        (-350, "EUR", "-€3.50"),
        (1200, "JPY", "¥1,200"),
        (1200, "CHF", "12.00 CHF"),
        (5, "KWD", "0.005 KWD"),
    ],
)
def test_money_reads_as_people_write_it(minor: int, currency: str, text: str) -> None:
    assert format_money(minor, currency) == text


def test_different_currencies_are_never_added() -> None:
    with pytest.raises(ValueError, match="cannot add EUR to USD"):
        Money(1, "USD") + Money(1, "EUR")


def test_equal_currencies_add() -> None:
    assert Money(150, "USD") + Money(50, "USD") == Money(200, "USD")
