"""Limits of keys, routes, models and units at the door: each counts its own, never more than it allows."""

import itertools
import os
import random
import time
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import redis

from core.ids import new_nonce
from core.redis_layout import reservations_key, usage_key
from keys.limits import CallLimits, OpenLimit, ScopedWindow
from keys.records import KeyRecord
from metering.admission import Target, admission
from metering.calls import Admission, Admitted, Refused, Settlement, Weighted
from metering.engine import Engine
from metering.scoped import Weights, hold, never_fits
from plans.door import Span
from plans.standing import DayTokens
from tests.gateway.records import record as some_record
from tests.metering.engine_kit import FOREVER, ORG, PERIOD, SHARD, counters, make_admission, open_organization
from tests.metering.test_exactness import PROCESSES, in_processes
from tests.metering.test_limits import worst_window

SPAN = Span(0, FOREVER, PERIOD, "")
SEARCH, OTHER = 11, 12
CALLS, TOKENS, GB = 1, 2, 3


def target(route_id: int = SEARCH, meter_id: int = CALLS, units: int = 1) -> Target:
    return Target(1, route_id, meter_id, units, Decimal(units))


def record_with(limits: CallLimits, **changes: Any) -> KeyRecord:
    values: dict[str, Any] = {"shard": SHARD, "organization_id": ORG, "version": 3, "windows": ()}
    return replace(some_record(), spans=(SPAN,), limits=limits, **(values | changes))


def ask(engine: Engine, record: KeyRecord, aim: Target) -> tuple[Admission, Any]:
    request = admission(record, SPAN, aim, nonce=new_nonce())
    return request, engine.admit(request)


def passes(engine: Engine, record: KeyRecord, aim: Target) -> str:
    """'' or the code of the refusal."""
    answer = ask(engine, record, aim)[1]
    return "" if isinstance(answer, Admitted) else str(answer.code)


@pytest.fixture
def engine(usage_redis: "redis.Redis") -> Engine:
    open_organization(usage_redis)
    return Engine(usage_redis)


def of_route(route_id: int, limit: int, seconds: int = 60) -> ScopedWindow:
    return ScopedWindow(f"route:{route_id}", seconds, limit, "calls", "route_rate_limited")


def test_a_routes_window_does_not_eat_anothers(engine: Engine) -> None:
    limits = CallLimits(of_routes={SEARCH: (of_route(SEARCH, 2),), OTHER: (of_route(OTHER, 1),)})
    record = record_with(limits)
    assert [passes(engine, record, target(SEARCH)) for _ in range(3)] == ["", "", "route_rate_limited"]
    assert [passes(engine, record, target(OTHER)) for _ in range(2)] == ["", "route_rate_limited"]
    assert passes(engine, record, target(99)) == ""


def test_what_one_limit_refuses_counts_in_no_other(engine: Engine, usage_redis: "redis.Redis") -> None:
    per_second, per_minute = of_route(SEARCH, 1, seconds=600), of_route(SEARCH, 3, seconds=3_600)
    record = record_with(CallLimits(of_routes={SEARCH: (per_second, per_minute)}), windows=((60, 5),))
    assert [passes(engine, record, target()) for _ in range(4)] == ["", *["route_rate_limited"] * 3]
    answer = ask(engine, record_with(CallLimits(), windows=((60, 5),)), target())[1]
    assert [w.remaining for w in answer.windows] == [3]  # two were counted: the one that passed, and this
    wider = record_with(CallLimits(of_routes={SEARCH: (per_minute,)}))
    assert [w.remaining for w in ask(engine, wider, target())[1].windows] == [1]


def test_units_count_where_a_call_counts_on_their_meter(engine: Engine) -> None:
    window = ScopedWindow("units:gb", 60, 10, "units", "unit_rate_limited", GB)
    record = record_with(CallLimits(everywhere=(window,)))
    assert [passes(engine, record, target(meter_id=GB, units=4)) for _ in range(3)] == [
        "",
        "",
        "unit_rate_limited",
    ]
    assert passes(engine, record, target(meter_id=CALLS, units=50)) == ""
    request = admission(record, SPAN, target(meter_id=GB, units=11), nonce=1)
    assert never_fits(request)


def test_tokens_of_plain_calls_count_in_windows_and_days(engine: Engine) -> None:
    window = ScopedWindow("tokens", 60, 100, "tokens", "token_rate_limited")
    limits = CallLimits(
        everywhere=(window,), token_meters={TOKENS: 3}, day_tokens=DayTokens(9, ((TOKENS, 3),))
    )
    record = record_with(limits)
    request, answer = ask(engine, record, target(meter_id=TOKENS, units=3_500))  # a begun token counts whole
    assert [(w.limit, w.remaining) for w in answer.windows] == [(100, 96)]
    assert engine.settle(
        Settlement.of(request, units=3_500, event=b"{}", at_us=answer.occurred_at_us)
    ).is_recorded
    again, answer = ask(engine, record, target(meter_id=TOKENS, units=5_000))
    assert isinstance(answer, Admitted)
    assert passes(engine, record, target(meter_id=TOKENS, units=1_000)) == "daily_token_limit_reached"
    engine.settle(Settlement.of(again, units=0, event=b"{}", at_us=answer.occurred_at_us))  # not billed
    _, answer = ask(engine, record, target(meter_id=TOKENS, units=5_000))
    assert [w.remaining for w in answer.windows] == [91]


def test_calls_at_the_same_time_by_key_and_route(engine: Engine, usage_redis: "redis.Redis") -> None:
    limits = CallLimits(
        open_everywhere=(OpenLimit("key5", 2, "key_concurrency_limited"),),
        open_on_routes={SEARCH: (OpenLimit("route11", 1, "route_concurrency_limited"),)},
    )
    record = record_with(limits)
    first, answer = ask(engine, record, target(SEARCH))
    refused = ask(engine, record, target(SEARCH))[1]
    assert (refused.code, refused.retry_after_s) == ("route_concurrency_limited", 1)
    assert passes(engine, record, target(OTHER)) == ""
    assert passes(engine, record, target(OTHER)) == "key_concurrency_limited"
    assert engine.settle(Settlement.of(first, units=1, event=b"{}", at_us=answer.occurred_at_us)).is_recorded
    assert passes(engine, record, target(SEARCH)) == ""
    opened = usage_key(SHARD, ORG, "live", "open")
    assert usage_redis.hgetall(opened) == {b"rkey5": b"2", b"rroute11": b"1"}
    assert 0 < usage_redis.pttl(opened) <= 172_800_000


def test_what_dies_while_it_is_open_gives_its_place_back(engine: Engine) -> None:
    limits = CallLimits(open_everywhere=(OpenLimit("key5", 1, "key_concurrency_limited"),))
    record = record_with(limits)
    request = replace(admission(record, SPAN, target(), nonce=1), life_seconds=1)
    assert isinstance(engine.admit(request), Admitted)
    assert passes(engine, record, target()) == "key_concurrency_limited"
    time.sleep(1.05)
    assert passes(engine, record, target()) == ""


def test_a_model_call_weighs_its_tokens_in_each_window() -> None:
    limits = CallLimits(
        everywhere=(ScopedWindow("tokens", 60, 100, "tokens", "token_rate_limited"),),
        of_models={
            "gpt": (
                ScopedWindow("model:7", 60, 5, "calls", "model_rate_limited"),
                ScopedWindow("model:7:output_tokens", 60, 40, "output_tokens", "token_rate_limited"),
                ScopedWindow("model:7:units:gb", 60, 40, "units", "unit_rate_limited", GB),
            )
        },
    )
    held = hold(make_admission(), limits, Weights(30, 10, 20, {CALLS: 9}), route_id=SEARCH, model="gpt")
    assert held.weighted == (
        Weighted("tokens", 60, 100, 30, "token_rate_limited"),
        Weighted("model:7", 60, 5, 1, "model_rate_limited"),
        Weighted("model:7:output_tokens", 60, 40, 20, "token_rate_limited"),
    )
    assert (
        hold(make_admission(), limits, Weights(30), route_id=SEARCH, model="other").weighted
        == held.weighted[:1]
    )


# --- exact under four processes ----------------------------------------------------------------------------------

SCOPES: dict[str, tuple[CallLimits, dict[str, Any], int]] = {
    # limits, other fields of the record, weight of a call
    "key": (CallLimits(), {"key_windows": ((2, 100),)}, 1),
    "route": (CallLimits(of_routes={SEARCH: (of_route(SEARCH, 100, 2),)}), {}, 1),
    "units": (CallLimits(everywhere=(ScopedWindow("units:gb", 2, 500, "units", "unit_rate_limited", GB),)), {}, 5),
    "key-tokens": (
        CallLimits(
            everywhere=(ScopedWindow("key:5:tokens", 2, 500, "tokens", "token_rate_limited"),), token_meters={GB: 0}
        ), {}, 5,
    ),
}  # fmt: skip


def _hammer(begin: float, number: int, scope: str) -> list[int]:
    """Ten times the limit for seven seconds; when what passed was admitted."""
    limits, changes, units = SCOPES[scope]
    engine, record = Engine(redis.Redis.from_url(os.environ["REDIS_URL"])), record_with(limits, **changes)
    admitted: list[int] = []
    for n in range(875):
        time.sleep(max(0.0, begin + (n + number / PROCESSES) / 125 - time.monotonic()))
        answer = ask(engine, record, target(meter_id=GB, units=units))[1]
        if isinstance(answer, Admitted):
            admitted.append(answer.occurred_at_us)
    return admitted


@pytest.mark.slow
@pytest.mark.parametrize("scope", list(SCOPES))
def test_no_window_of_any_scope_ever_holds_more(usage_redis: "redis.Redis", scope: str) -> None:
    open_organization(usage_redis)
    admitted = sorted(itertools.chain.from_iterable(in_processes(_hammer, scope)))
    assert worst_window(admitted, 2) == 100
    assert len(admitted) >= 300


def _hammer_two(begin: float, number: int) -> list[int]:
    limits = CallLimits(of_routes={SEARCH: (of_route(SEARCH, 20, 1), of_route(SEARCH, 50, 4))})
    engine, record = Engine(redis.Redis.from_url(os.environ["REDIS_URL"])), record_with(limits)
    time.sleep(max(0.0, begin - time.monotonic()))
    admitted: list[int] = []
    while time.monotonic() < begin + 9:
        answer = ask(engine, record, target())[1]
        if isinstance(answer, Admitted):
            admitted.append(answer.occurred_at_us)
        time.sleep(0.005)
    return admitted


@pytest.mark.slow
def test_two_windows_at_once_both_hold(usage_redis: "redis.Redis") -> None:
    open_organization(usage_redis)
    admitted = sorted(itertools.chain.from_iterable(in_processes(_hammer_two)))
    assert (worst_window(admitted, 1), worst_window(admitted, 4)) == (20, 50)
    assert len(admitted) >= 100


def _open_and_close(begin: float, number: int) -> list[tuple[int, int]]:
    """Calls that last some milliseconds; when each was admitted, and when it was about to be settled."""
    limits = CallLimits(open_on_routes={SEARCH: (OpenLimit("route11", 5, "route_concurrency_limited"),)})
    client = redis.Redis.from_url(os.environ["REDIS_URL"])
    engine, record = Engine(client), record_with(limits)
    rng, calls, held = random.Random(number), list[tuple[int, int]](), list[tuple[Admission, Any]]()
    time.sleep(max(0.0, begin - time.monotonic()))
    while time.monotonic() < begin + 3:
        request, answer = ask(engine, record, target())
        if isinstance(answer, Admitted):
            held.append((request, answer))
        elif isinstance(answer, Refused):
            assert answer.code == "route_concurrency_limited"
        if held and rng.random() < 0.5:
            request, answer = held.pop(0)
            seconds, micros = client.time()
            calls.append((answer.occurred_at_us, seconds * 1_000_000 + micros))
            engine.settle(Settlement.of(request, units=1, event=b"{}", at_us=answer.occurred_at_us))
    for request, answer in held:
        calls.append((answer.occurred_at_us, answer.occurred_at_us + 10**9))
        engine.settle(Settlement.of(request, units=1, event=b"{}", at_us=answer.occurred_at_us))
    return calls


def test_never_more_calls_at_the_same_time_than_a_route_allows(usage_redis: "redis.Redis") -> None:
    open_organization(usage_redis)
    calls = list(itertools.chain.from_iterable(in_processes(_open_and_close)))
    moments = sorted(
        [(begun, 1) for begun, _ in calls] + [(ended, -1) for _, ended in calls], key=lambda m: m
    )
    assert max(itertools.accumulate(change for _, change in moments)) == 5
    assert len(calls) > 100
    assert usage_redis.hget(usage_key(SHARD, ORG, "live", "open"), "rroute11") == b"0"
    assert counters(usage_redis, meter=CALLS) == (len(calls), 0)
    assert usage_redis.zcard(reservations_key(SHARD, ORG)) == 0
