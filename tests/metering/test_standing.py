import random
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast

import pytest
from django.test import Client
from redis import Redis

from core.clock import now
from core.redis_layout import rate_key
from metering import drf
from metering.calls import Admitted
from metering.engine import Engine
from metering.script_calls import admit_call
from metering.standing import window_sum
from plans.suspension import suspend_organization
from tests.factories import expire_key
from tests.metering.api_kit import Customer, problem
from tests.metering.engine_kit import ORG, SHARD, make_admission, open_organization, run_at

LIMIT = 10_000


@pytest.mark.parametrize("seconds", [1, 60, 3_600])
def test_what_is_read_is_what_the_next_admission_counts(usage_redis: Redis, seconds: int) -> None:
    open_organization(usage_redis)
    engine, key = Engine(usage_redis), rate_key(SHARD, ORG, "live", seconds)
    chance, at_us = random.Random(seconds), 1_800_000_000_000_000
    sums = []
    for _ in range(150):
        at_us += chance.choice((0, 1_000, seconds * 20_000, seconds * 400_000, seconds * 1_000_000))
        before = window_sum(cast("bytes | None", usage_redis.get(key)), seconds, at_us)
        answer = run_at(engine, admit_call(make_admission(windows=((seconds, LIMIT),))), at_us)
        assert isinstance(answer, Admitted)
        assert answer.windows[0].remaining == LIMIT - before - 1
        sums.append(before)
    assert max(sums) > 5
    assert window_sum(cast("bytes | None", usage_redis.get(key)), seconds, at_us + 2_000_000 * seconds) == 0


def test_a_window_that_was_never_used_is_empty() -> None:
    assert window_sum(None, 60, 1) == 0


@pytest.fixture
def customer(transactional_db: None, usage_redis: Redis) -> Iterator[Customer]:
    yield Customer.start(
        included=Decimal(10), per_minute=20, key={"calls_per_minute": 5}, features=("basic_endpoints",)
    )
    drf.forget_cached()


def account(customer: Customer) -> dict[str, Any]:
    answer: Any = customer.get("/api/account/")
    assert answer.status_code == 200, answer.content
    document: dict[str, Any] = answer.json()
    return document


def test_the_account_says_who_a_key_is_and_what_is_left(customer: Customer) -> None:
    assert [customer.get().status_code for _ in range(3)] == [200] * 3
    seen = account(customer)
    key, organization = customer.issued.key, customer.organization
    assert (seen["organization"], seen["organization_name"]) == (organization.public_id, organization.name)
    assert (seen["key"], seen["key_name"], seen["mode"]) == (key.public_id, key.name, "live")
    assert (seen["door"], seen["features"]) == ("open", ["basic_endpoints"])
    assert seen["usage"] == [{"meter": "api_calls", "used": "3", "quota": "10", "left": "7"}]
    assert seen["rate_limits"] == [
        {
            "window_seconds": 60,
            "limit": 20,
            "remaining": 17,
            "of": "organization",
            "counts": "calls",
            "on": "",
        },
        {"window_seconds": 60, "limit": 5, "remaining": 2, "of": "key", "counts": "calls", "on": ""},
    ]
    assert seen["period"]["start"] < now().isoformat() < seen["period"]["end"]


def test_looking_is_free(customer: Customer) -> None:
    first = account(customer)
    assert [account(customer) for _ in range(10)] == [first] * 10
    assert customer.events() == []
    assert first["rate_limits"][1]["remaining"] == 5


def test_a_closed_door_can_be_looked_at(customer: Customer) -> None:
    suspend_organization(organization=customer.organization, by=None, at=now(), reason="abuse")
    drf.forget_cached()  # nothing is admitted here, so the record may be a minute old
    assert account(customer)["door"] == "suspended"


def test_the_account_needs_a_valid_key(customer: Customer) -> None:
    problem(Client().get("/api/account/"), 401, "missing_key")
    problem(customer.get("/api/account/", key="nonsense"), 401, "invalid_key")
    expire_key(customer.issued.key, at=now() - timedelta(seconds=1))
    problem(customer.get("/api/account/"), 401, "key_expired")


def test_without_redis_the_account_cannot_say(customer: Customer, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    problem(customer.get("/api/account/"), 503, "metering_unavailable")
