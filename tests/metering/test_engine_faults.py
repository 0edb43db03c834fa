"""Wrong types, wrong numbers, full memory, forgotten scripts, a dead or frozen server: nothing moves, or nothing is lost."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from core.redis_layout import (
    claim_key,
    expiries_key,
    key_rate_key,
    organization_key,
    rate_key,
    refusals_key,
    reservations_key,
    shard_key,
    stream_key,
)
from metering.calls import Settlement, TrackedEvent
from metering.engine import Admitted, Engine, MeteringUnavailable
from metering.script_calls import (
    Call,
    admit_call,
    refusal_call,
    release_call,
    renew_call,
    restore_call,
    settle_call,
    sweep_call,
    track_call,
)
from metering.scripts import NAMES, script
from plans.cap_table import MeterTable, Segment, SpendLimit
from tests.metering.engine_kit import (
    FOREVER,
    KEY,
    METER,
    ORG,
    SHARD,
    USAGE,
    counters,
    everything,
    make_admission,
    open_organization,
    run_at,
    told,
)

NOW = 1_800_000_000_123_457
LIMITS: dict[str, Any] = {"windows": [(60, 5)], "key_windows": [(60, 5)]}
OPEN = make_admission(units=2, quota=9, **LIMITS)
DUE = make_admission(units=1, life_seconds=1)
RESERVED = make_admission(units=3, quota=2, **LIMITS)
PRICES = (MeterTable(METER, (Segment(2, 0, 5, 2),)), MeterTable(METER + 1, (Segment(0, 0, 7, -2),)))
CAPPED: dict[str, Any] = {"spend": SpendLimit(100, PRICES), "concurrency": 9, **LIMITS}
LOST = make_admission(units=2, **CAPPED)


def reported(claim: str) -> TrackedEvent:
    return TrackedEvent(ORG, "live", 7, METER, 4, claim, FOREVER, b"{}")


CALLS: dict[str, Callable[[], Call[Any]]] = {
    "admit": lambda: told(admit_call(make_admission(units=2, **LIMITS)), NOW + 2_000_000),
    "admit refused": lambda: told(admit_call(RESERVED), NOW + 2_000_000),
    "admit with a cap": lambda: told(admit_call(make_admission(units=2, **CAPPED)), NOW + 2_000_000),
    "settle with a cap": lambda: settle_call(Settlement.of(LOST, units=3, event=b"{}")),
    "settle": lambda: settle_call(Settlement.of(OPEN, units=1, event=b"{}")),
    "settle returned": lambda: settle_call(Settlement.of(RESERVED, units=1, event=b"{}")),
    "track": lambda: track_call(SHARD, [reported("one"), reported("two")]),
    "renew": lambda: told(renew_call([OPEN.reservation]), NOW),
    "release": lambda: release_call(OPEN.reservation),
    "sweep": lambda: told(sweep_call(SHARD, ORG), NOW + 2_000_000),
    "refuse": lambda: refusal_call(SHARD, ORG, "live", KEY, "scope", 1),
    "restore": lambda: restore_call(SHARD, ORG, 3, "e", {USAGE: {METER: 3}}, expires_ms=FOREVER // 1000),
}
STRING_KEYS = (rate_key(SHARD, ORG, "live", 60), key_rate_key(SHARD, KEY, 60))
KEYS = (
    organization_key(SHARD, ORG),
    shard_key(SHARD),
    USAGE,
    reservations_key(SHARD, ORG),
    expiries_key(SHARD),
    stream_key(SHARD),
    refusals_key(SHARD, (NOW + 2_000_000) // 60_000_000),
    *STRING_KEYS,
)


@pytest.fixture
def engine(usage_redis: "redis.Redis") -> Engine:
    """A shard with something in every key."""
    open_organization(usage_redis)
    engine = Engine(usage_redis)
    run_at(engine, admit_call(OPEN), NOW)
    run_at(engine, admit_call(DUE), NOW)
    engine.track(SHARD, [reported("before")])
    return engine


def put_wrong_type(client: "redis.Redis", key: str) -> None:
    client.delete(key)
    if key in STRING_KEYS:
        client.rpush(key, "x")
    else:
        client.set(key, "x")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_type_moves_nothing(engine: Engine, name: str, key: str) -> None:
    put_wrong_type(engine.client, key)
    before = everything(engine.client)
    try:
        engine.run(CALLS[name]())
    except MeteringUnavailable:
        assert everything(engine.client) == before
    else:  # the script did not need this key: all of it was done
        assert engine.client.dump(key) == before[key.encode()]


def test_a_wrong_type_under_the_first_reservation_moves_nothing(engine: Engine) -> None:
    engine.client.delete(reservations_key(SHARD, ORG))
    put_wrong_type(engine.client, expiries_key(SHARD))
    before = everything(engine.client)
    with pytest.raises(MeteringUnavailable):
        engine.admit(make_admission())
    assert everything(engine.client) == before


@pytest.mark.parametrize("value", ["-1", "1.5", "1e3", "007", "x", "", str(2**53)])
@pytest.mark.parametrize("field", [str(METER), f"r{METER}"])
@pytest.mark.parametrize("name", ["admit", "admit with a cap", "settle", "settle with a cap", "track"])
def test_a_damaged_counter_moves_nothing(engine: Engine, name: str, field: str, value: str) -> None:
    engine.client.hset(USAGE, field, value)
    before = everything(engine.client)
    with pytest.raises(MeteringUnavailable):
        engine.run(CALLS[name]())
    assert everything(engine.client) == before


@pytest.mark.parametrize("value", ["-1", "1.5", "x"])
@pytest.mark.parametrize("field", [f"{METER + 1}", f"r{METER + 1}"])
@pytest.mark.parametrize("name", ["admit with a cap", "settle with a cap"])
def test_a_damaged_counter_of_another_priced_meter_moves_nothing(
    engine: Engine, name: str, field: str, value: str
) -> None:
    engine.client.hset(USAGE, field, value)
    before = everything(engine.client)
    with pytest.raises(MeteringUnavailable):
        engine.run(CALLS[name]())
    assert everything(engine.client) == before


@pytest.mark.parametrize("length", [1, 7, 8, 31, 40, 70, 90])
@pytest.mark.parametrize("name", ["admit with a cap", "settle with a cap"])
def test_damaged_price_tables_move_nothing(engine: Engine, name: str, length: int) -> None:
    call = CALLS[name]()
    args = [value[:length] if isinstance(value, bytes) and len(value) > 8 else value for value in call.args]
    before = everything(engine.client)
    with pytest.raises(redis.ResponseError):
        engine.client.eval(call.script.source, len(call.keys), *call.keys, *args)
    assert everything(engine.client) == before


@pytest.mark.parametrize("length", [3, 15, 16, 17, 100, 5000])
def test_a_damaged_window_moves_nothing(engine: Engine, length: int) -> None:
    whole = engine.client.get(STRING_KEYS[0])
    engine.client.set(STRING_KEYS[0], (whole * 10)[:length])
    before = everything(engine.client)
    with pytest.raises(MeteringUnavailable):
        engine.run(CALLS["admit"]())
    assert everything(engine.client) == before


def test_a_damaged_reservation_moves_nothing(engine: Engine) -> None:
    engine.client.zadd(reservations_key(SHARD, ORG), {"nonsense": 1})
    before = everything(engine.client)
    for name in ("admit", "sweep"):
        with pytest.raises(MeteringUnavailable):
            engine.run(CALLS[name]())
    assert everything(engine.client) == before


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("wrong", ["x", "-1", "1.5", "", str(2**53)])
def test_wrong_arguments_move_nothing_or_everything(engine: Engine, name: str, wrong: str) -> None:
    """Each argument in turn: an error leaves all as it was, so no write failed after another had passed."""
    call = CALLS[name]()
    for position in range(len(call.args)):
        args = [wrong if i == position else value for i, value in enumerate(call.args)]
        before = everything(engine.client)
        try:
            engine.client.eval(call.script.source, len(call.keys), *call.keys, *args)
        except redis.ResponseError:
            assert everything(engine.client) == before, position


def test_a_batch_is_checked_whole_before_its_first_write(engine: Engine) -> None:
    call = track_call(SHARD, [reported("one"), reported("two")])
    args = list(call.args)
    args[8] = "many"  # the units of the second event
    before = everything(engine.client)
    with pytest.raises(redis.ResponseError):
        engine.client.eval(call.script.source, len(call.keys), *call.keys, *args)
    assert everything(engine.client) == before
    assert not engine.client.exists(claim_key(SHARD, ORG, "one"))


# --- memory, scripts, server -------------------------------------------------------------------------------------


@pytest.fixture
def full(server_factory: Any) -> Iterator[Engine]:
    """A server of the test's own, so that its memory can be taken away."""
    with redis.Redis.from_url(server_factory.valkey().url) as client:
        open_organization(client)
        engine = Engine(client)
        run_at(engine, admit_call(OPEN), NOW)
        run_at(engine, admit_call(DUE), NOW)
        yield engine


def test_full_memory_moves_nothing(full: Engine) -> None:
    for name in CALLS:
        full.client.script_load(CALLS[name]().script.source)
    before = everything(full.client)
    full.client.config_set("maxmemory", "1")
    for make in CALLS.values():
        with pytest.raises(MeteringUnavailable):
            full.run(make())
    full.client.config_set("maxmemory", "0")
    assert everything(full.client) == before
    assert full.settle(Settlement.of(OPEN, units=1, event=b"{}")).is_recorded


def test_forgotten_scripts_are_loaded_again(engine: Engine) -> None:
    engine.client.script_flush()
    assert isinstance(engine.admit(make_admission()), Admitted)


def test_killed_server_keeps_what_it_acknowledged(server_factory: Any) -> None:
    server = server_factory.valkey()
    with redis.Redis.from_url(server.url) as client:
        open_organization(client)
        engine, requests = Engine(client), [make_admission() for _ in range(20)]
        for request in requests:
            engine.admit(request)
            engine.settle(Settlement.of(request, units=1, event=b"{}"))
        server.kill()
        with pytest.raises(MeteringUnavailable):
            engine.admit(make_admission())
        server.start()
        assert counters(client) == (20, 0)
        assert not [
            r for r in requests if not engine.settle(Settlement.of(r, units=1, event=b"{}")).is_recorded
        ]
        assert client.xlen(stream_key(SHARD)) == 20


def test_frozen_server_is_given_up_in_two_seconds_and_asked_once(server_factory: Any) -> None:
    from django.test import override_settings

    server = server_factory.valkey()
    with redis.Redis.from_url(server.url) as client, override_settings(REDIS_URL=server.url):
        open_organization(client)
        Engine().admit(make_admission())
        server.freeze()
        began = time.monotonic()
        with pytest.raises(MeteringUnavailable):
            Engine().admit(make_admission())
        waited = time.monotonic() - began
        server.thaw()
        time.sleep(0.1)
        assert 1.9 < waited < 3
        assert counters(client) == (0, 2)  # it ran once after the thaw, and expires


@pytest.mark.parametrize("name", NAMES)
def test_scripts_let_redis_refuse_them_when_memory_is_full(name: str) -> None:
    assert script(name).source.startswith("#!lua\n")
