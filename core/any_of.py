"""Thousands of ids as one array parameter. `__in` with a list makes a placeholder of each, which Django, the driver and the
server then read one by one."""

from collections.abc import Iterable

from django.db.models.expressions import RawSQL


def any_of(ids: Iterable[int]) -> RawSQL:
    """For `filter(pk__in=any_of(ids))`; no id matches nothing."""
    return RawSQL("SELECT unnest(%s::bigint[])", [list(ids)])
