from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.clock import from_micros, to_micros


@given(st.integers(min_value=0, max_value=4_000_000_000_000_000))
def test_micros_survive_the_way_through_datetime(micros: int) -> None:
    assert to_micros(from_micros(micros)) == micros


def test_zones_do_not_change_the_moment() -> None:
    there = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    assert to_micros(there) == to_micros(there.astimezone(UTC))


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="naive"):
        to_micros(datetime(2026, 3, 1))  # noqa: DTZ001
