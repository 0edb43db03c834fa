"""The rule by itself: what fires, what goes back below, what stays."""

from decimal import Decimal

import pytest

from metering.alerts.evaluate import Change, Measure, Watched, changes, share_of


def at(value: int, limit: int = 100) -> Measure:
    return Measure(Decimal(value), Decimal(limit))


@pytest.mark.parametrize(
    ("measure", "is_open", "fires"),
    [
        (at(99), False, None), (at(100), False, True), (at(101), False, True),
        (at(100), True, None), (at(99), True, False), (at(101), True, None),
        (None, False, None), (None, True, False), (at(0, 0), False, True),
    ],
)  # fmt: skip
def test_each_case(measure: Measure | None, is_open: bool, fires: bool | None) -> None:
    expected = [] if fires is None else [Change(7, fires, measure)]
    assert changes([Watched(7, measure, is_open)]) == expected


def test_shares_are_exact() -> None:
    assert share_of(Decimal("0.000000001"), Decimal("33.3")) == Decimal("0.000000000333")
    assert share_of(Decimal(3), Decimal(120)) == Decimal("3.6")
