from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plans.periods import fee_bounds, is_first_month, month_bounds, month_number, month_start

anchors = st.datetimes(
    min_value=datetime(2020, 1, 1),  # noqa: DTZ001
    max_value=datetime(2030, 12, 31),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@pytest.mark.parametrize(
    ("anchor", "number", "start"),
    [
        ((2026, 1, 31), 1, (2026, 2, 28)),
        ((2026, 1, 31), 2, (2026, 3, 31)),  # back on the 31st: counted from the anchor
        ((2024, 1, 30), 1, (2024, 2, 29)),
        ((2024, 2, 29), 12, (2025, 2, 28)),
        ((2024, 2, 29), 48, (2028, 2, 29)),
    ],
)
def test_months_are_counted_from_the_anchor(
    anchor: tuple[int, int, int], number: int, start: tuple[int, int, int]
) -> None:
    assert month_start(datetime(*anchor, tzinfo=UTC), number) == datetime(*start, tzinfo=UTC)


@given(anchors, st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3653)))
def test_every_moment_lies_in_exactly_one_month(anchor: datetime, later: timedelta) -> None:
    at = anchor + later
    start, end = month_bounds(anchor, at)
    assert start <= at < end


@given(anchors, st.integers(min_value=0, max_value=130))
def test_months_tile_time(anchor: datetime, number: int) -> None:
    start = month_start(anchor, number)
    assert month_number(anchor, start) == number
    assert month_bounds(anchor, start)[1] == month_start(anchor, number + 1)


def test_before_the_anchor_there_is_no_month() -> None:
    anchor = datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="before the anchor"):
        month_number(anchor, anchor - timedelta(microseconds=1))


def test_months_do_not_depend_on_the_zone_in_which_a_moment_is_written() -> None:
    anchor = datetime(2026, 1, 1, tzinfo=UTC)
    for hours, number in ((-5, 1), (14, 0)):
        zone = timezone(timedelta(hours=hours))
        moment = datetime(2026, 2, 1, tzinfo=UTC) - timedelta(hours=0 if number else 1)
        assert month_number(anchor, moment.astimezone(zone)) == number


def test_a_fee_interval_of_twelve_months_begins_once() -> None:
    anchor = datetime(2024, 2, 29, tzinfo=UTC)
    starts = [month_start(anchor, number) for number in range(36)]
    assert [is_first_month(anchor, start, 12) for start in starts] == ([True] + [False] * 11) * 3
    year = (datetime(2025, 2, 28, tzinfo=UTC), datetime(2026, 2, 28, tzinfo=UTC))
    assert fee_bounds(anchor, starts[17], 12) == year
    assert fee_bounds(anchor, starts[17], 1) == (starts[17], starts[18])
