from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.core.exceptions import ValidationError

from core.hours import EARLIEST, LATEST, ceil_hour, check_moment, floor_hour

NINE = datetime(2026, 3, 1, 9, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def test_a_moment_lies_between_its_hour_and_the_next() -> None:
    assert floor_hour(NINE) == ceil_hour(NINE) == NINE
    assert floor_hour(NINE + TICK) == NINE
    assert ceil_hour(NINE + TICK) == NINE + timedelta(hours=1)
    india = (NINE + timedelta(minutes=40)).astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert (floor_hour(india), ceil_hour(india)) == (NINE, NINE + timedelta(hours=1))


@pytest.mark.parametrize("moment", [EARLIEST - TICK, LATEST])
def test_moments_without_usage_are_refused(moment: datetime) -> None:
    check_moment(EARLIEST)
    check_moment(LATEST - TICK)
    with pytest.raises(ValidationError):
        check_moment(moment)
