"""Billing periods as arithmetic: months from the anchor, never month by month (which would drift from the 31st).

The usage period is always a month from the anchor; the fee interval is one month, or twelve (ENGINE.md, section 9).
"""

from calendar import isleap
from datetime import datetime

MONTHS_A_YEAR = 12
_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_FEBRUARY = 1


def month_start(anchor: datetime, number: int) -> datetime:
    """The start of usage month `number` (0 is the anchor itself), clipped to the month's last day."""
    year, month = divmod(anchor.year * MONTHS_A_YEAR + anchor.month - 1 + number, MONTHS_A_YEAR)
    last = _DAYS[month] + (month == _FEBRUARY and isleap(year))
    return anchor.replace(year=year, month=month + 1, day=min(anchor.day, last))


def month_number(anchor: datetime, at: datetime) -> int:
    """The number of the usage month that contains `at`. Raises ValueError before the anchor."""
    if at < anchor:
        raise ValueError("before the anchor")
    if at.tzinfo is not anchor.tzinfo:
        at = at.astimezone(anchor.tzinfo)  # its year and month are read below
    number = (at.year - anchor.year) * MONTHS_A_YEAR + at.month - anchor.month
    return number - 1 if month_start(anchor, number) > at else number


def next_month(anchor: datetime, at: datetime) -> datetime:
    """The end of the usage month that contains `at`."""
    return month_start(anchor, month_number(anchor, at) + 1)


def month_bounds(anchor: datetime, at: datetime) -> tuple[datetime, datetime]:
    """The half-open usage month `[start, end)` that contains `at`."""
    number = month_number(anchor, at)
    return month_start(anchor, number), month_start(anchor, number + 1)


def fee_bounds(anchor: datetime, at: datetime, months: int) -> tuple[datetime, datetime]:
    """The half-open fee interval of so many months that contains `at`."""
    first = month_number(anchor, at) // months * months
    return month_start(anchor, first), month_start(anchor, first + months)


def is_first_month(anchor: datetime, starts_at: datetime, months: int) -> bool:
    """Whether the usage month that starts then is the first of its fee interval: the one whose statement has the fee."""
    return month_number(anchor, starts_at) % months == 0
