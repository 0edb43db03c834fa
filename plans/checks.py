"""Asked at start and at `manage.py check --database default`: limits on sale that nothing counts against any more."""

from collections.abc import Sequence
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage, Tags, register
from django.db import DatabaseError

from plans.limit_checks import row_faults
from plans.limit_words import limit_words
from plans.models import VersionState
from plans.queries import LIMIT_ROWS


@register(Tags.database)
def limits_hold(databases: Sequence[str] | None, **_: Any) -> list[CheckMessage]:
    """A plan that limits tokens after its meter or route went off sale promises a limit that does not exist."""
    if not databases:
        return []
    try:
        rows = list(LIMIT_ROWS.filter(version__state=VersionState.PUBLISHED).select_related("version__plan"))
        faults = [(row, fault) for row in rows for fault in row_faults(row)]
    except DatabaseError:  # before the first migration there is nothing to ask
        return []
    return [
        checks.Warning(
            f"{row.version}: {limit_words(row)}. {fault}",
            hint="Publish a version without it, or put its route or meter on sale again (docs/limits.md).",
            id="plans.W001",
        )
        for row, fault in faults
    ]
