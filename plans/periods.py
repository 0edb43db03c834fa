"""Billing periods as arithmetic: months from the anchor, never month by month (which would drift from the 31st)."""

from datetime import datetime

from dateutil.relativedelta import relativedelta

MONTHS_A_YEAR = 12


def month_start(anchor: datetime, number: int) -> datetime:
    """The start of usage month `number` (0 is the anchor itself), clipped to the month's last day."""
    return anchor + relativedelta(months=number)


def month_number(anchor: datetime, at: datetime) -> int:
    """The number of the usage month that contains `at`. Raises ValueError before the anchor."""
    if at < anchor:
        raise ValueError("before the anchor")
    number = (at.year - anchor.year) * MONTHS_A_YEAR + at.month - anchor.month
    while month_start(anchor, number) > at:
        number -= 1
    while month_start(anchor, number + 1) <= at:
        number += 1
    return number


def month_bounds(anchor: datetime, at: datetime) -> tuple[datetime, datetime]:
    """The half-open usage month `[start, end)` that contains `at`."""
    number = month_number(anchor, at)
    return month_start(anchor, number), month_start(anchor, number + 1)
