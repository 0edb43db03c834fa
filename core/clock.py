"""Time: aware UTC everywhere, microseconds where events are dated.

Only faces (views, tasks, commands) read the clock; acts are told `at=`.
"""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def now() -> datetime:
    """The present moment, aware, UTC."""
    return datetime.now(UTC)


def to_micros(moment: datetime) -> int:
    """Whole microseconds since 1970 UTC; exact, no float in between. Raises ValueError for naive times."""
    if moment.tzinfo is None:
        raise ValueError("a naive time has no place in UTC")
    return (moment - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The aware UTC time of so many microseconds since 1970."""
    return EPOCH + timedelta(microseconds=micros)
