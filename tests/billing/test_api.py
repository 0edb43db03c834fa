from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from redis import Redis

from billing.statements import finalise_due
from tests.billing.kit import HOUR, Customer
from tests.factories import create_key

pytestmark = pytest.mark.django_db(transaction=True)


class Caller:
    """A customer's program."""

    def __init__(self, customer: Customer) -> None:
        self._key = create_key(organization=customer.organization).clear

    def get(self, path: str) -> Any:
        return Client().get(f"/api/billing/{path}", headers={"Authorization": f"Bearer {self._key}"})


def test_a_statement_has_the_lines_of_the_page(usage_redis: Redis) -> None:
    acme = Customer.start()
    acme.use(12_500)
    statement = acme.finalise()
    caller = Caller(acme)

    (listed,) = caller.get("statements").json()["statements"]
    body = caller.get(f"statements/{statement.number}").json()

    assert body.items() >= listed.items()
    assert (body["id"], body["total_minor"], body["due_minor"]) == (statement.public_id, 5_150, 5_150)
    usage = body["lines"][1]
    assert (usage["quantity"], usage["amount"], usage["amount_minor"]) == ("12500", "$2.50", 250)
    assert [(tier["range"], tier["quantity"], tier["amount"]) for tier in usage["tiers"]] == [
        ("0 to 10,000", "10000", "0"),
        ("above 10,000", "2500", "2.5"),
    ]
    assert sum(Decimal(tier["amount"]) for tier in usage["tiers"]) == Decimal("2.5")
    assert caller.get(f"statements/{statement.public_id}").json() == body


def test_pages_follow_each_other(usage_redis: Redis) -> None:
    acme = Customer.start()
    finalise_due(at=acme.period(2).ends_at + HOUR)
    caller = Caller(acme)

    answer = caller.get("statements?limit=2")
    first = answer.json()
    assert answer["Link"] == f'</api/billing/statements?limit=2&cursor={first["next"]}>; rel="next"'
    second = caller.get(f"statements?limit=2&cursor={first['next']}").json()

    numbers = [one["number"] for one in first["statements"] + second["statements"]]
    assert numbers == ["ACME-0003", "ACME-0002", "ACME-0001"]
    assert second["next"] is None
    for wrong in ("limit=0", "limit=501", "limit=x", "cursor=stm_unknown", "before=stm_unknown"):
        refused = caller.get(f"statements?{wrong}")
        named = [error["field"] for error in refused.json()["errors"]]
        assert (refused.status_code, named) == (400, [wrong.partition("=")[0]])


def test_the_running_period_has_the_shape_of_a_statement(usage_redis: Redis) -> None:
    acme = Customer.start()

    body = Caller(acme).get("statements/upcoming").json()

    assert (body["state"], body["total_minor"], body["lines"][0]["kind"]) == ("draft", 4_900, "fee")


def test_the_statements_of_others_are_not_there(usage_redis: Redis) -> None:
    acme, other = Customer.start("Acme"), Customer.start("Other", shard=3)
    statement = acme.finalise()
    caller = Caller(other)

    assert caller.get("statements").json()["statements"] == []
    assert caller.get(f"statements/{statement.public_id}").status_code == 404
    assert caller.get(f"statements/{statement.number}").status_code == 404
    assert caller.get(f"statements?cursor={statement.public_id}").status_code == 400
