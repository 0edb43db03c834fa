"""Statements beside the ledger: the quantities on their lines are the sums of the events up to their cut.

Of meters that add up; `manage.py statements recompute` rates everything again, other meters and cents included.
"""

from collections.abc import Iterator

from django.db import connection

from accounts.models import Organization
from metering.reconcile import Difference, plain

# Usage on the period's own statement, and what came late on a later document: each with its stretch of storing times.
_DIFFERENCES = """
WITH lines AS (
    SELECT s.organization_id, s.number, coalesce(l.of_period_id, s.period_id) AS period_id, l.meter_id, l.since, s.cut_at,
        sum(l.quantity) AS quantity
    FROM billing_statement s JOIN billing_statementline l ON l.statement_id = s.id
    JOIN plans_meter m ON m.id = l.meter_id AND m.aggregation IN ('sum', 'count')
    WHERE s.state = 'finalised' AND s.kind <> 'credit_note'
        AND (%(organization)s::bigint IS NULL OR s.organization_id = %(organization)s)
    GROUP BY 1, 2, 3, 4, 5, 6
), recorded AS (
    SELECT l.number, l.organization_id, l.period_id, l.meter_id, sum(e.quantity) AS quantity
    FROM lines l JOIN usage_event e USING (organization_id, period_id, meter_id)
    WHERE e.mode = 'live' AND e.stored_at <= l.cut_at AND (l.since IS NULL OR e.stored_at > l.since)
    GROUP BY 1, 2, 3, 4
)
SELECT o.public_id, l.number, m.slug, l.period_id, coalesce(r.quantity, 0), l.quantity
FROM lines l LEFT JOIN recorded r USING (number, organization_id, period_id, meter_id)
JOIN accounts_organization o ON o.id = l.organization_id JOIN plans_meter m ON m.id = l.meter_id
WHERE coalesce(r.quantity, 0) <> l.quantity
ORDER BY 1, 2, 3, 4 LIMIT 200
"""


def statement_differences(organization: Organization | None) -> Iterator[Difference]:
    """Statements whose quantities are not those of the ledger at their cut; of one organization or of all."""
    with connection.cursor() as cursor:
        cursor.execute(_DIFFERENCES, {"organization": organization.pk if organization else None})
        rows = cursor.fetchall()
    for public_id, number, meter, period_id, recorded, billed in rows:
        yield Difference(
            "statement", f"{public_id} {number} {meter} period {period_id}", plain(recorded), plain(billed)
        )
