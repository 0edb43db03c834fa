"""The outbox beside the statements: what Stripe was told of a period is what its statement says."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.db import connection

from accounts.models import Organization
from billing.stripe.usage import metered_prices
from metering.reconcile import Difference, plain

# The first statement of a period: Stripe's invoice is made of it.
_DIFFERENCES = """
WITH prices AS (
    SELECT * FROM unnest(
        %(versions)s::bigint[], %(meters)s::bigint[], %(scales)s::int[], %(ours)s::bigint[], %(dimensions)s::text[]
    ) AS p (version_id, stripe_meter_id, scale, meter_id, dimension)
), stated AS (
    SELECT s.id, s.number, s.organization_id, s.period_id, p.stripe_meter_id, p.scale, p.meter_id, p.dimension
    FROM billing_statement s JOIN plans_period d ON d.id = s.period_id JOIN prices p ON p.version_id = d.version_id
    WHERE s.kind = 'period' AND s.replaces_id IS NULL
        AND (%(organization)s::bigint IS NULL OR s.organization_id = %(organization)s)
        AND EXISTS (
            SELECT FROM billing_stripesubscription b
            WHERE b.subscription_id = d.subscription_id AND b.started_at < d.ends_at
                AND (b.ended_at IS NULL OR b.ended_at > d.starts_at)
        )
), compared AS (
    SELECT a.number, a.organization_id, a.period_id, a.stripe_meter_id,
        floor(coalesce((
            SELECT sum(l.quantity) FROM billing_statementline l
            WHERE l.statement_id = a.id AND l.kind = 'usage' AND l.of_period_id IS NULL
                AND l.meter_id = a.meter_id AND l.dimension = a.dimension
        ), 0) * 10::numeric ^ a.scale) AS said,
        coalesce((
            SELECT sum(u.value) FROM billing_stripeusage u
            WHERE u.organization_id = a.organization_id AND u.meter_id = a.stripe_meter_id AND u.period_id = a.period_id
        ), 0) AS told
    FROM stated a
)
SELECT o.public_id, c.number, m.event_name, c.period_id, c.said, c.told
FROM compared c JOIN accounts_organization o ON o.id = c.organization_id
JOIN billing_stripemeter m ON m.id = c.stripe_meter_id
WHERE c.said <> c.told ORDER BY 1, 2, 3 LIMIT 200
"""


def told_differences(organization: Organization | None) -> Iterator[Difference]:
    """Periods whose rows for Stripe do not add up to their statement, in Stripe's whole units; of one
    organization or of all. Nothing without a Stripe key."""
    if not settings.STRIPE_SECRET_KEY:
        return
    prices = [(version, price) for version, found in metered_prices().items() for price in found]
    scope: dict[str, Any] = {
        "versions": [version for version, _ in prices],
        "meters": [price.meter_id for _, price in prices],
        "scales": [price.scale for _, price in prices],
        "ours": [price.line[0] for _, price in prices],
        "dimensions": [price.line[1] for _, price in prices],
        "organization": organization.pk if organization else None,
    }
    with connection.cursor() as cursor:
        cursor.execute(_DIFFERENCES, scope)
        rows = cursor.fetchall()
    for public_id, number, meter, period_id, said, told in rows:
        yield Difference("told", f"{public_id} {number} {meter} period {period_id}", plain(said), plain(told))
