import pytest
from django.db import connection
from redis import Redis

from core.clock import now
from metering.reconcile import reconcile
from tests.billing.kit import Customer

pytestmark = pytest.mark.django_db(transaction=True)


def differences(kind: str = "statement") -> list[str]:
    return [str(one) for one in reconcile(at=now()).differences if one.kind == kind]


def test_statements_are_compared_with_the_ledger_at_their_cuts(usage_redis: Redis) -> None:
    acme = Customer.start()
    acme.use(12_500)
    first = acme.finalise()
    acme.use(300)
    acme.use(7, month=1)
    second = acme.finalise(1)
    acme.use(40, month=1)  # late, for the next one
    assert differences() == []

    with connection.cursor() as cursor:
        cursor.execute("UPDATE usage_event SET quantity = quantity + 10 WHERE quantity IN (12500, 300)")

    where = f"{acme.organization.public_id} {{}} api_calls period {acme.period().pk}"
    assert differences() == [
        f"statement: {where.format(first.number)}: expected 12510, found 12500",
        f"statement: {where.format(second.number)}: expected 310, found 300",
    ]
