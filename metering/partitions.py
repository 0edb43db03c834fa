"""Months of the ledger: each is a partition of `usage_event`, made ahead by a beat task and, when missing, by the drain."""

from collections.abc import Iterable
from datetime import UTC, date, datetime

from dateutil.relativedelta import relativedelta
from django.db import connection

MONTHS_AHEAD = 3


def month_of(moment: datetime) -> date:
    """The first day of the month (UTC) that holds this moment."""
    return moment.astimezone(UTC).date().replace(day=1)


def ensure_partitions(start: date, months: int = MONTHS_AHEAD) -> list[date]:
    """Make the partitions of the month of `start` and of the `months` after it; the months that were missing."""
    first = start.replace(day=1)
    return make_partitions(first + relativedelta(months=number) for number in range(months + 1))


def make_partitions(months: Iterable[date]) -> list[date]:
    """Make those of these months that are missing, in order; which. Safe when several make the same one at once."""
    made = []
    with connection.cursor() as cursor:
        for month in sorted(set(months)):
            cursor.execute("SELECT usage_event_make_partition(%s)", [month])
            if cursor.fetchone() == (True,):
                made.append(month)
    return made
