"""Looking at a door, and charging through it, against the engine that the other doors use."""

import random
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import orjson
import pytest
import redis

from core.ids import event_id, event_time_ms, new_nonce
from core.redis_layout import claim_key, reservations_key, stream_key, usage_key
from metering import calls
from metering.calls import Admission, Admitted, NoState, Refused, Settlement, Stale, WrongSpan
from metering.engine import Engine
from metering.events import Event
from metering.verifying import Charge, Verified, charge_call, look_call
from tests.metering.engine_kit import (
    METER,
    ORG,
    PERIOD,
    SHARD,
    counters,
    everything,
    make_admission,
    open_organization,
)


@pytest.fixture
def engine(usage_redis: "redis.Redis") -> Engine:
    open_organization(usage_redis)
    return Engine(usage_redis)


def charge_of(request: Admission, name: str = "order-1") -> Charge:
    return Charge(
        Event(
            id=event_id(0, request.nonce), occurred_at_us=0, organization_id=ORG, mode="live", meter_id=METER,
            period_id=PERIOD, quantity=Decimal(request.units), door="verify", source="verify", external_id=name,
            properties={"resource": '"at":0 00000000-0000'},
        )
    )  # fmt: skip


def charge(engine: Engine, name: str = "order-1", **changes: Any) -> Verified:
    request = make_admission(**changes)
    return engine.run(charge_call(request, charge_of(request, name)))


def look(engine: Engine, **changes: Any) -> Any:
    return engine.run(look_call(make_admission(**changes))).answer


def test_a_look_leaves_no_trace(engine: Engine, usage_redis: "redis.Redis") -> None:
    before = everything(usage_redis)

    passed = look(engine, windows=((60, 2),), quota=5)
    closed = look(engine, refusal="suspended")
    full = look(engine, windows=((60, 0),))

    assert isinstance(passed, Admitted)
    assert (passed.used, passed.windows[0].remaining, passed.windows[0].reset_s) == (0, 2, 0)
    assert passed.quota is not None
    assert passed.quota.remaining == 5
    assert isinstance(closed, Refused)
    assert closed.code == "suspended"
    assert isinstance(full, Refused)
    assert everything(usage_redis) == before


def test_a_look_says_what_admission_then_does(engine: Engine) -> None:
    rng, seen = random.Random(7), set()
    for _ in range(300):
        facts: dict[str, Any] = {
            "windows": ((60, 40), (3600, 60)), "key_windows": ((60, rng.choice((20, 50))),), "quota": 100,
            "units": rng.randint(0, 9), "concurrency": rng.choice((-1, 2)),
        }  # fmt: skip
        expected = look(engine, **facts)
        request = make_admission(**facts)
        answer = engine.admit(request)
        assert type(answer) is type(expected)
        assert answer.code == expected.code if isinstance(answer, Refused) else True
        seen.add(answer.code if isinstance(answer, Refused) else "passed")
        if isinstance(answer, Admitted):
            assert answer.used == expected.used + request.units
            assert [w.remaining + 1 for w in answer.windows] == [w.remaining for w in expected.windows]
            if rng.random() < 0.9:
                engine.settle(Settlement.of(request, units=request.units, event=b"{}"))
    assert {"passed", "key_rate_limited", "quota_exceeded"} <= seen


def test_what_the_worker_does_not_know_is_said_as_at_the_other_doors(
    engine: Engine, usage_redis: "redis.Redis"
) -> None:
    for run in (look, lambda engine, **facts: charge(engine, **facts).answer):
        assert isinstance(run(engine, version=2), Stale)
        assert isinstance(run(engine, span_end_us=1), WrongSpan)
        assert isinstance(run(engine, org_id=999), NoState)
    assert usage_redis.xlen(stream_key(SHARD)) == 0


def test_a_charge_is_an_event_with_the_time_of_redis(engine: Engine, usage_redis: "redis.Redis") -> None:
    made = charge(engine, units=3, quota=10)

    assert isinstance(made.answer, Admitted)
    assert not made.is_known
    assert counters(usage_redis) == (3, 0)
    ((_, fields),) = usage_redis.xrange(stream_key(SHARD))  # type: ignore[misc]
    event = Event.from_json(fields[b"e"])
    assert (event.occurred_at_us, event.id) == (made.answer.occurred_at_us, made.answer.event_id)
    assert event_time_ms(event.id) == event.occurred_at_us // 1000
    assert (event.external_id, event.quantity) == ("order-1", 3)
    assert event.properties == {"resource": '"at":0 00000000-0000'}
    assert fields[b"q"] == b"epoch:1"
    assert orjson.loads(fields[b"e"])["at"] == made.answer.occurred_at_us


def test_the_same_id_is_charged_once_also_where_nothing_is_left(
    engine: Engine, usage_redis: "redis.Redis"
) -> None:
    assert isinstance(charge(engine, units=5, quota=5).answer, Admitted)

    again = charge(engine, units=5, quota=5)
    other = charge(engine, "order-2", units=1, quota=5)

    assert again.is_known
    assert (other.is_known, getattr(other.answer, "code", "")) == (False, "quota_exceeded")
    assert counters(usage_redis) == (5, 0)
    assert usage_redis.xlen(stream_key(SHARD)) == 1


def test_a_refused_charge_can_be_made_later(engine: Engine, usage_redis: "redis.Redis") -> None:
    assert isinstance(charge(engine, refusal="suspended").answer, Refused)
    assert isinstance(charge(engine).answer, Admitted)
    assert counters(usage_redis) == (1, 0)


def test_parallel_charges_of_one_id_are_one_and_of_many_ids_as_many_as_fit(
    engine: Engine, usage_redis: "redis.Redis"
) -> None:
    with ThreadPoolExecutor(8) as threads:
        same = list(threads.map(lambda _: charge(Engine(), "one", quota=10).is_known, range(40)))
        many = list(threads.map(lambda n: charge(Engine(), f"n{n}", quota=10).answer, range(40)))

    assert same.count(False) == 1
    assert sum(isinstance(answer, Admitted) for answer in many) == 9
    assert counters(usage_redis) == (10, 0)


def test_a_claim_is_of_its_organization(engine: Engine, usage_redis: "redis.Redis") -> None:
    request = make_admission()
    engine.run(charge_call(request, charge_of(request)))

    assert usage_redis.pttl(claim_key(SHARD, ORG, charge_of(request).claim)) > 6 * 86_400_000
    assert not usage_redis.exists(claim_key(SHARD, ORG + 1, charge_of(request).claim))
    assert new_nonce() != request.nonce


OF_DAY, OPENED = (
    calls.Charge(0, 7, 10, "daily_token_limit_reached"),
    calls.Charge("key40", 1, 1, "key_concurrency_limited"),
)


def test_a_charge_counts_in_every_limit_that_a_call_counts_in(
    engine: Engine, usage_redis: "redis.Redis"
) -> None:
    window = calls.Weighted("route:9:tokens", 60, 100, 7, "token_rate_limited")
    facts: dict[str, Any] = {"daily": (OF_DAY, OPENED), "weighted": (window,), "windows": ((60, 5),)}
    before = look(engine, **facts)
    assert [w.remaining for w in before.windows] == [5, 100]  # without the call that nobody made
    made = charge(engine, **facts)
    assert isinstance(made.answer, Admitted)
    assert [w.remaining for w in made.answer.windows] == [4, 93]
    day = usage_key(SHARD, ORG, "live", calls.day_name(made.answer.occurred_at_us))
    assert usage_redis.hgetall(day) == {b"0": b"7", b"r0": b"0"}
    assert usage_redis.hgetall(usage_key(SHARD, ORG, "live", calls.OPEN)) == {b"rkey40": b"0"}
    assert usage_redis.zcard(reservations_key(SHARD, ORG)) == 0
    refused = charge(engine, "order-2", **facts).answer
    assert isinstance(refused, Refused)
    assert refused.code == "daily_token_limit_reached"
    assert charge(engine, **facts).is_known
    assert usage_redis.hget(day, "0") == b"7"


def test_a_look_sees_calls_that_are_open(engine: Engine) -> None:
    assert isinstance(look(engine, daily=(OPENED,)), Admitted)
    engine.admit(make_admission(daily=(OPENED,)))
    refused = look(engine, daily=(OPENED,))
    assert isinstance(refused, Refused)
    assert (refused.code, refused.retry_after_s) == ("key_concurrency_limited", 1)
