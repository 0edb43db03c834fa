"""Whole hours of UTC, in which usage is counted; and which moments one may ask for at all."""

from datetime import UTC, datetime, timedelta

from django.core.exceptions import ValidationError

HOUR = timedelta(hours=1)
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def floor_hour(moment: datetime) -> datetime:
    """The hour that contains this moment."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def ceil_hour(moment: datetime) -> datetime:
    """The first hour that begins at this moment or after it."""
    floor = floor_hour(moment)
    return floor if floor == moment else floor + HOUR


def check_moment(moment: datetime) -> None:
    """Refuses what no usage can be of, and from which no window can be counted back or on. Raises ValidationError."""
    if not EARLIEST <= moment < LATEST:
        raise ValidationError("A moment from the year 2000 on, before 2200.")
