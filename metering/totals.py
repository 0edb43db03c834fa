"""Totals from the ledger's events, counted anew: a repair, never needed by a sound installation."""

from django.db import connection, transaction

from accounts.models import Organization
from metering import totals_sql as sql
from metering.ledger import lock_shard


@transaction.atomic
def rebuild_totals(organization: Organization) -> int:
    """Throw the totals of this organization away and count its events again; how many. Waits for its shard's drain."""
    lock_shard(organization.shard, wait=True)
    scope = {"organization": organization.pk}
    with connection.cursor() as cursor:
        for statement in sql.FORGET:
            cursor.execute(statement, scope)
        cursor.execute(sql.COUNT_AGAIN, scope)
        events = int(cursor.fetchone()[0])
        for statement in sql.AFTER_VOIDS_OF_ORGANIZATION:
            cursor.execute(statement, scope)
    return events
