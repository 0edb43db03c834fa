"""Usage that the ledger stored after a period's statement was final: billed as the difference, on the next document."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db import connection

from billing.drafts import DraftLine, difference
from billing.models import LateLook
from core.clock import EPOCH
from metering.costs import rate_so_far
from metering.queries import period_quantities_at
from plans.models import Aggregation, Meter, Period
from plans.pricing import Rated

# A period is covered up to the cut of its statement, or of the newest document with an adjustment of it; what came since
# and changed nothing (LateLook) is not late.
_LATE = """
WITH covered AS (
    SELECT s.period_id, s.organization_id, s.currency, greatest(s.cut_at, (
        SELECT max(a.cut_at) FROM billing_statementline l JOIN billing_statement a ON a.id = l.statement_id
        WHERE l.of_period_id = s.period_id AND a.state = 'finalised'
    )) AS covered_to
    FROM billing_statement s
    WHERE s.kind = 'period' AND s.state = 'finalised' AND s.ends_at > %(after)s
        {scope}
), stated AS (
    SELECT c.*, greatest(c.covered_to, k.looked_to) AS looked_to
    FROM covered c LEFT JOIN billing_latelook k ON k.period_id = c.period_id AND k.covered_to = c.covered_to
)
SELECT DISTINCT organization_id, currency, period_id, covered_to
FROM stated JOIN usage_period_total t USING (organization_id, period_id)
WHERE t.mode = 'live' AND t.stored_at > looked_to
{carried}
ORDER BY 1, 3
"""
# A late reading of a time-weighted meter stands on into the periods after its own.
_CARRIED = """
UNION
SELECT stated.organization_id, currency, stated.period_id, covered_to
FROM stated JOIN plans_period p ON p.id = stated.period_id
JOIN usage_period_total t ON t.organization_id = stated.organization_id AND t.meter_id = ANY(%(carried)s)
JOIN plans_period earlier ON earlier.id = t.period_id AND earlier.ends_at <= p.starts_at
WHERE t.mode = 'live' AND t.stored_at > looked_to
"""


class LatePeriod(NamedTuple):
    """A period of which the ledger stored something after `covered_to`, the cut up to which it has been billed."""

    organization_id: int
    currency: str
    period_id: int
    covered_to: datetime


def late_periods(
    *, at: datetime, organization_ids: Iterable[int] | None = None, all_ages: bool = True
) -> list[LatePeriod]:
    """Finalised periods with usage that came late; of all organizations, or of these. Not `all_ages`: those for which
    usage can still be reported (a setting); older ones have late corrections only."""
    ids = None if organization_ids is None else list(organization_ids)
    after = EPOCH if all_ages else at - timedelta(days=settings.TRACK_OLDEST_DAYS + 31)
    carried = list(Meter.objects.filter(aggregation=Aggregation.TIME_WEIGHTED).values_list("pk", flat=True))
    statement = _LATE.format(
        scope="" if ids is None else "AND s.organization_id = ANY(%(organizations)s)",
        carried=_CARRIED if carried else "",
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, {"organizations": ids, "after": after, "carried": carried})
        return [LatePeriod(*row) for row in cursor.fetchall()]


def adjustment_lines(
    late: Sequence[LatePeriod], *, cut_at: datetime
) -> dict[tuple[int, str], list[DraftLine]]:
    """Per (organization id, currency) the lines that bill late usage up to this cut: each period is rated as it was
    billed and as it is now, by its own plan version. In the transaction of the cut; where nothing changed, that is kept, so
    that the same usage is not rated for ever."""
    periods = {
        period.pk: period
        for period in Period.objects.filter(pk__in=[one.period_id for one in late]).select_related(
            "organization", "version__plan"
        )
    }
    lines: dict[tuple[int, str], list[DraftLine]] = defaultdict(list)
    unchanged = []
    for one in late:
        found = late_lines(periods[one.period_id], since=one.covered_to, cut_at=cut_at)
        lines[one.organization_id, one.currency] += found
        if not found:
            unchanged.append(LateLook(pk=one.period_id, covered_to=one.covered_to, looked_to=cut_at))
    LateLook.objects.bulk_create(
        unchanged, update_conflicts=True, unique_fields=["period"], update_fields=["covered_to", "looked_to"]
    )
    return dict(lines)


def late_lines(period: Period, *, since: datetime, cut_at: datetime) -> list[DraftLine]:
    """The lines of one period's usage that was stored after `since` and up to `cut_at`; also how they are recomputed."""
    before, after = cost_at(period, cut_at=since), cost_at(period, cut_at=cut_at)
    return difference(before, after, of_period_id=period.pk, since=since)


def cost_at(period: Period, *, cut_at: datetime) -> Rated:
    """What a period cost as the ledger knew it at a cut, read from its events."""
    return rate_so_far(period, period_quantities_at(period, cut_at=cut_at))
