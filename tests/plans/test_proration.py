from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plans.pricing import PriceModel, Terms, UsagePrice, rate_period
from plans.proration import credit_line, included_left, shortened_minimum, time_left, upgrade_credit

JANUARY, FEBRUARY = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
CALLS, STORAGE = ("calls", ""), ("storage", "")
STARTER = Terms(
    "Starter",
    "USD",
    4900,
    (
        UsagePrice("calls", "call", Decimal(50_000), Decimal("0.001")),
        UsagePrice("traffic", "GB", Decimal(0), Decimal("0.05"), PriceModel.PER_UNIT),
        UsagePrice("storage", "GB", Decimal(10), Decimal("0.10")),
    ),
)
shares = st.fractions(min_value=0, max_value=1)


@pytest.mark.parametrize(
    ("fee", "time", "included", "credit"),
    [
        (4900, Fraction(1, 2), [], 2450),
        (4900, Fraction(1, 2), [Fraction(1, 4)], 1225),
        (4900, Fraction(1, 4), [Fraction(1, 2)], 1225),
        (4900, Fraction(30, 31), [Fraction(1), Fraction(0)], 0),
        (999, Fraction(1, 2), [], 500),  # 499.5: half up
        (100, Fraction(1, 3), [], 33),
        (100, Fraction(2, 3), [], 67),
        (0, Fraction(1), [], 0),
    ],
)
def test_the_smallest_share_left_goes_back(
    fee: int, time: Fraction, included: list[Fraction], credit: int
) -> None:
    assert upgrade_credit(fee, time_left=time, included_left=included) == credit


@given(st.integers(0, 10**12), shares, st.lists(shares, max_size=4))
def test_never_more_than_the_fee_never_less_than_nothing(
    fee: int, time: Fraction, included: list[Fraction]
) -> None:
    credit = upgrade_credit(fee, time_left=time, included_left=included)
    assert 0 <= credit <= fee
    assert credit <= upgrade_credit(fee, time_left=time)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=31)))
def test_time_left_is_exact_to_the_microsecond(passed: timedelta) -> None:
    at = JANUARY + passed
    assert time_left(JANUARY, FEBRUARY, at) == 1 - Fraction(
        passed // timedelta(microseconds=1), 31 * 86_400 * 10**6
    )


def test_outside_the_span_all_or_nothing_is_left() -> None:
    assert time_left(JANUARY, FEBRUARY, FEBRUARY + timedelta(1)) == 0
    assert time_left(JANUARY, FEBRUARY, JANUARY - timedelta(1)) == 1


def test_meters_that_include_nothing_have_no_share() -> None:
    usage = {CALLS: Decimal(40_000), STORAGE: Decimal(12), ("traffic", ""): Decimal(99)}
    assert included_left(STARTER, usage) == [Fraction(1, 5), Fraction(0)]


def test_whoever_used_everything_on_the_first_day_gets_nothing_back() -> None:
    at = JANUARY + timedelta(days=1)
    usage = {CALLS: Decimal(50_000)}
    assert credit_line(STARTER, usage, anchor=JANUARY, starts_at=JANUARY, at=at) is None


def test_the_credit_is_a_line_of_the_closed_period() -> None:
    at = JANUARY + timedelta(days=15, hours=12)
    line = credit_line(STARTER, {CALLS: Decimal(5_000)}, anchor=JANUARY, starts_at=JANUARY, at=at)
    assert line is not None
    assert (line.kind, line.amount_minor, line.meter) == ("fee_credit", -2450, "")
    assert [tier.amount for tier in line.tiers] == [Decimal("-24.50")]
    lines = (*rate_period(STARTER, {}).lines, line)
    assert sum(one.amount_minor for one in lines) == 2450


def test_of_a_yearly_fee_the_months_after_this_one_are_untouched() -> None:
    yearly = Terms("Starter", "USD", 48_000, (UsagePrice("calls", "call", Decimal(1_000), Decimal(1)),))
    third = datetime(2026, 3, 1, tzinfo=UTC)
    at = third + timedelta(days=1)
    usage = {CALLS: Decimal(500)}
    line = credit_line(yearly, usage, anchor=JANUARY, starts_at=third, at=at, months=12)
    assert line is not None
    assert line.amount_minor == -38_000  # 9.5 of 12 months' quantity; of time 305 of 365 days are left
    at = third + timedelta(days=30)
    line = credit_line(yearly, {}, anchor=JANUARY, starts_at=third, at=at, months=12)
    assert line is not None
    assert line.amount_minor == -36_296  # 276 of 365 days: 36,295.89


def test_a_shortened_month_owes_its_share_of_the_minimum() -> None:
    at = JANUARY + timedelta(days=7, hours=18)
    assert shortened_minimum(10_000, anchor=JANUARY, starts_at=JANUARY, ends_at=at) == 2_500
    assert shortened_minimum(10_000, anchor=JANUARY, starts_at=JANUARY, ends_at=FEBRUARY) == 10_000
