"""How many tokens an organization may use in a UTC day, over all meters that count tokens. Staff decide."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from django.db import transaction

from accounts.models import Organization, User
from plans.models import Override, OverrideKind
from plans.overrides import Grant, active_overrides, end_override, set_override


@transaction.atomic
def set_daily_tokens(
    *, organization: Organization, tokens: int | None, reason: str, by: User | None, at: datetime
) -> bool:
    """Set, change or (None) remove the limit; whether anything changed. Raises OverrideIncomplete or Forbidden."""
    before = _override(organization, at)
    if (int(before.amount) if before is not None and before.amount is not None else None) == tokens:
        return False
    if tokens is not None:
        grant = Grant(OverrideKind.DAY_TOKENS, amount=Decimal(tokens))
        set_override(organization=organization, grant=grant, reason=reason, by=by, at=at)
    elif before is not None:
        end_override(override=before, by=by, at=at)
    return True


def daily_tokens(organizations: Iterable[int], *, at: datetime) -> dict[int, int]:
    """The limits by organization id, of those that have one; one query."""
    rows = Override.objects.filter(
        organization_id__in=list(organizations), kind=OverrideKind.DAY_TOKENS, starts_at__lte=at
    ).exclude(ends_at__lte=at)
    found: dict[int, int] = {}
    for row in rows:  # the newest first
        found.setdefault(row.organization_id, int(row.amount or 0))
    return found


def _override(organization: Organization, at: datetime) -> Override | None:
    return active_overrides(organization, at=at).filter(kind=OverrideKind.DAY_TOKENS).first()
