"""All limits of one customer that differ from its plan's, set at once: what the owner's API does."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from django.db import transaction

from accounts.models import Organization, User
from plans.models import Counted, Override, OverrideKind
from plans.overrides import LIMITS, Grant, OverrideIncomplete, active_overrides, end_override, set_override


@transaction.atomic
def set_limits(
    *, organization: Organization, wanted: Sequence[Grant], reason: str, by: User | None, at: datetime
) -> bool:
    """Exactly these hold from now on in the place of the plan's; whether anything changed. Raises OverrideIncomplete, Forbidden."""
    if len({replace(grant, amount=None) for grant in wanted}) < len(wanted):
        raise OverrideIncomplete("The same thing is limited twice.", field="rate_limits")
    present = {grant_of(o): o for o in active_overrides(organization, at=at).filter(kind__in=LIMITS)}
    missing = [grant for grant in wanted if grant not in present]
    ended = [override for grant, override in present.items() if grant not in wanted]
    for override in ended:
        end_override(override=override, by=by, at=at)
    for grant in missing:
        set_override(organization=organization, grant=grant, reason=reason, by=by, at=at)
    return bool(missing or ended)


def grant_of(override: Override) -> Grant:
    """What an override says."""
    return Grant(
        OverrideKind(override.kind), override.amount, override.window_seconds, override.meter, override.feature,
        override.scope, override.measure, override.route, override.model,
    )  # fmt: skip


def limits_of(organizations: Iterable[int], *, at: datetime) -> dict[int, list[Override]]:
    """Limits that differ from the plan's, by organization id; one query."""
    rows = Override.objects.filter(
        organization_id__in=list(organizations), kind__in=LIMITS, starts_at__lte=at
    )
    found: dict[int, list[Override]] = defaultdict(list)
    for row in rows.exclude(ends_at__lte=at).select_related("meter", "route", "model").order_by("pk"):
        found[row.organization_id].append(row)
    return found


def measure_of(override: Override) -> str:
    """What it counts, in the words of plan files."""
    return Counted.CONCURRENCY if override.kind == OverrideKind.CONCURRENCY else override.measure
