"""A round over the organizations whose usage or caps changed since the last one."""

from datetime import datetime, timedelta

import structlog
from django.db import DatabaseError, connection, transaction

from accounts.models import Organization
from core.clock import EPOCH
from metering.alerts.services import LOOKS_BACK, evaluate_organization
from metering.models import AlertClock

# A turn of the drain that committed just after the last round has stored its rows before it.
OVERLAP = timedelta(minutes=2)
log = structlog.get_logger(__name__)

# By period, through the index of totals: only periods that run or ended just now are looked at. Time-weighted quantities
# grow by themselves.
_CHANGED = """
SELECT p.organization_id FROM plans_period p
WHERE p.ends_at > %(oldest)s AND p.starts_at <= %(at)s AND EXISTS (
    SELECT FROM usage_period_total t WHERE t.period_id = p.id AND t.mode = 'live' AND (t.stored_at > %(since)s
        OR t.meter_id IN (SELECT id FROM plans_meter WHERE aggregation = 'time_weighted')))
UNION SELECT organization_id FROM plans_spendcap WHERE at > %(since)s
UNION SELECT organization_id FROM plans_override WHERE starts_at > %(since)s AND starts_at <= %(at)s
    OR ends_at > %(since)s AND ends_at <= %(at)s
"""


def changed_organizations(*, since: datetime, at: datetime) -> list[int]:
    """Ids of organizations in which an alert may have something new to say."""
    with connection.cursor() as cursor:
        cursor.execute(_CHANGED, {"since": since, "at": at, "oldest": at - LOOKS_BACK})
        return sorted(row[0] for row in cursor.fetchall())


def evaluate_changed(*, at: datetime) -> int:
    """One round; how many alerts fired or recovered. Where one organization fails the others go on, and the next round
    looks at the same span again."""
    clock, _ = AlertClock.objects.get_or_create(pk=1, defaults={"seen_until": EPOCH})
    since = max(clock.seen_until, EPOCH + OVERLAP) - OVERLAP
    changed, failed = 0, 0
    for pk in changed_organizations(since=since, at=at):
        try:
            with transaction.atomic():
                changed += evaluate_organization(Organization.objects.get(pk=pk), at=at)
        except (DatabaseError, ArithmeticError, ValueError) as error:
            failed += 1
            log.error("alerts_not_evaluated", organization=pk, error=f"{type(error).__name__}: {error}"[:200])
    if not failed:
        AlertClock.objects.filter(pk=1, seen_until__lt=at).update(seen_until=at)
    return changed
