from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.forecast import Model, forecast, reaches_at, shares_ahead

MONDAY = date(2026, 6, 1)
END = datetime(2026, 7, 1, tzinfo=UTC)


def days(*quantities: int, start: date = MONDAY) -> dict[date, Decimal]:
    return {start + timedelta(days=n): Decimal(q) for n, q in enumerate(quantities)}


def noon(day: int, month: int = 6) -> datetime:
    return datetime(2026, month, day, 12, tzinfo=UTC)


def test_an_even_history_goes_on_evenly_and_without_doubt() -> None:
    found = forecast(days(*[100] * 14), used=Decimal(1450), at=noon(15), ends_at=END)
    assert found.expected == found.low == found.high == 1450 + 50 + 15 * 100


def test_quiet_weekends_are_expected_to_be_quiet() -> None:
    week = [100, 100, 100, 100, 100, 0, 0]
    friday_evening = datetime(2026, 6, 20, tzinfo=UTC)  # a Saturday's first moment
    found = forecast(days(*week, *week, 100, 100, 100, 100, 100), used=Decimal(1500), at=friday_evening,
                     ends_at=datetime(2026, 6, 22, tzinfo=UTC))  # fmt: skip
    assert found.expected == 1500
    plain = forecast(days(*week, *week), used=Decimal(0), at=friday_evening, ends_at=datetime(2026, 6, 22, tzinfo=UTC),
                     model=Model.RUN_RATE)  # fmt: skip
    assert plain.expected > 0


def test_without_history_only_what_is_used_is_expected() -> None:
    assert forecast({}, used=Decimal(7), at=noon(2), ends_at=END).high == 7


def test_a_growing_history_has_a_wider_range() -> None:
    even = forecast(days(*[100] * 14), used=Decimal(0), at=noon(15), ends_at=END)
    growing = forecast(days(*[50] * 7, *[150] * 7), used=Decimal(0), at=noon(15), ends_at=END)
    assert growing.high - growing.low > even.high - even.low


@pytest.mark.parametrize(
    ("limit", "day"), [(1400, 15), (1500, 15), (1501, 16), (1600, 16), (1601, 17), (3000, 30), (3001, None)]
)
def test_the_day_on_which_a_limit_is_passed(limit: int, day: int | None) -> None:
    found = reaches_at(
        days(*[100] * 14), used=Decimal(1450), limit=Decimal(limit) - 1, at=noon(15), ends_at=END
    )
    assert found == (date(2026, 6, day) if day else None)


def test_shares_of_days_add_up_to_the_time_between() -> None:
    shares = shares_ahead(noon(28), datetime(2026, 7, 1, 6, tzinfo=UTC))
    assert [share for _, share in shares] == [Decimal("0.5"), 1, 1, Decimal("0.25")]


@given(
    st.lists(st.integers(0, 10_000), max_size=60),
    st.integers(0, 100_000),
    st.integers(1, 30),
    st.sampled_from(list(Model)),
)
def test_a_range_holds_its_expectation_and_never_undoes_what_is_used(
    history: list[int], used: int, day: int, model: Model
) -> None:
    known = days(*history, start=date(2026, 4, 20))
    found = forecast(known, used=Decimal(used), at=noon(day), ends_at=END, model=model)
    assert used <= found.low <= found.expected <= found.high


def test_the_largest_quantities_have_a_forecast() -> None:
    huge = Decimal(10) ** 25
    found = forecast(
        {MONDAY + timedelta(days=n): huge for n in range(14)}, used=huge, at=noon(15), ends_at=END
    )
    assert found.expected == huge + 15 * huge + huge / 2
