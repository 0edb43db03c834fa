"""The short way through admission and settle is the long way with fewer steps: same answers, same traces."""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import redis

from core.redis_layout import stream_key
from metering.calls import Admission, Admitted, Settled, Settlement
from metering.script_calls import Call, admit_call, settle_call
from metering.scripts import Script, build_script
from metering.verifying import look_call
from plans.cap_table import GRAINS, MeterTable, Segment, SpendLimit
from tests.metering.engine_kit import SHARD, TOLD_CLOCK, make_admission, open_organization

CAP = SpendLimit(
    20, (MeterTable(2, (Segment(0, 0, GRAINS, 1),)), MeterTable(3, (Segment(1, 0, GRAINS // 2, 1),)))
)
START = 1_790_000_000_000_000
SHORT_WAYS = ("admit_first", "admit_capped", "look_first", "look_capped", "settle_plain")


@cache
def told_script(name: str, *, is_long: bool) -> Script:
    return build_script(name, clock=TOLD_CLOCK, without=SHORT_WAYS if is_long else ())


def steps(seed: int, count: int) -> list[Callable[[dict[int, Any]], tuple[Call[Any], int] | None]]:
    """Admissions, looks and settles around every limit; a settle takes up what an admission was answered."""
    rng, now, made = random.Random(seed), START, []
    for number in range(count):
        now += rng.choice((0, 1, 300, 40_000, 250_000, 3_000_000, 70_000_000))
        request = make_admission(
            nonce=2**73 + number, windows=rng.choice(((), ((60, 6),), ((60, 5), (1, 2)))), key_windows=rng.choice(((), ((60, 4),))),
            quota=rng.choice((-1, -1, 3, 40)), units=rng.choice((0, 1, 1, 2)), concurrency=rng.choice((-1, -1, 3)),
            meter_id=rng.choice((2, 3)), version=rng.choice((3, 3, 3, 2)), refusal=rng.choice(("", "", "", "suspended")),
            spend=rng.choice((None, CAP)),
        )  # fmt: skip
        made.append(_admission(number, request, now))
        if rng.random() < 0.3:
            made.append(_look(request, now))
        if rng.random() < 0.8:
            made.append(_settle(rng.randrange(number + 1), rng.choice((0, 1, 1, 5)), now))
    return made


def _admission(number: int, request: Admission, now: int) -> Any:
    return lambda answers: (
        replace(admit_call(request), parse=_kept(admit_call(request), answers, number, request)),
        now,
    )


def _kept(call: Call[Any], answers: dict[int, Any], number: int, request: Admission) -> Callable[[Any], Any]:
    def parse(reply: Any) -> Any:
        answer = call.parse(reply)
        if isinstance(answer, Admitted):
            answers[number] = request
        return answer

    return parse


def _look(request: Admission, now: int) -> Any:
    return lambda answers: (look_call(request), now)


def _settle(number: int, units: int, now: int) -> Any:
    def step(answers: dict[int, Any]) -> Any:
        request = answers.get(number)
        return (
            None
            if request is None
            else (settle_call(Settlement.of(request, units=units, event=b"%d" % number)), now)
        )

    return step


def run(client: "redis.Redis", made: list[Any], *, is_long: bool) -> tuple[list[Any], Any]:
    """What the steps were answered, and what is in Redis afterwards (what expires: to the second)."""
    client.flushdb()
    open_organization(client)
    answers: dict[int, Any] = {}
    said = []
    for step in made:
        if (found := step(answers)) is None:
            continue
        call, now = found
        script = told_script(call.script.name, is_long=is_long)
        told = () if script.name == "settle" else (str(now),)
        said.append(call.parse(client.eval(script.source, len(call.keys), *call.keys, *call.args, *told)))
    entries: Any = client.xrange(stream_key(SHARD))
    client.delete(stream_key(SHARD))
    keys = sorted(client.keys("*"))
    lives = [client.ttl(key) for key in keys]
    return said, ([fields for _, fields in entries], [(key, client.dump(key)) for key in keys], lives)


@pytest.mark.parametrize("seed", range(5))
def test_both_ways_answer_and_leave_the_same(usage_redis: "redis.Redis", seed: int) -> None:
    made = steps(seed, 120)
    short, (entries, keys, lives) = run(usage_redis, made, is_long=False)
    long, (same_entries, same_keys, same_lives) = run(usage_redis, made, is_long=True)

    assert short == long
    assert entries == same_entries
    assert keys == same_keys
    assert all(abs(one - other) <= 2 for one, other in zip(lives, same_lives, strict=True))
    assert {type(answer).__name__ for answer in short} >= {"Admitted", "Refused", "Settled", "Verified"}


def test_the_usual_call_goes_the_short_way(usage_redis: "redis.Redis") -> None:
    """A packed reply is the short way's own."""
    open_organization(usage_redis)
    first, usual = make_admission(windows=[(60, 9)]), make_admission(windows=[(60, 9)], quota=9)
    for request, kind in ((first, list), (usual, bytes)):
        call = admit_call(request)
        reply = usage_redis.eval(call.script.source, len(call.keys), *call.keys, *call.args)
        assert isinstance(reply, kind)
    look = look_call(usual)
    assert isinstance(usage_redis.eval(look.script.source, len(look.keys), *look.keys, *look.args), bytes)
    settle = settle_call(Settlement.of(usual, units=1, event=b"{}"))
    source = settle.script.source.partition("local usage, usage_expiry")[0]  # what follows is the long way
    reply = usage_redis.eval(source, len(settle.keys), *settle.keys, *settle.args)
    assert isinstance(answer := settle.parse(reply), Settled)
    assert answer.is_recorded


@pytest.mark.parametrize(
    "number", [0, 1, 10**14, 10**15, 10**15 + 1, 2**52, 2**53 - 1, 1_790_000_000_123_456, 9 * 10**15]
)
def test_redis_prints_whole_numbers_of_lua_in_full(usage_redis: "redis.Redis", number: int) -> None:
    """Scripts hand numbers to commands as they are; a form with an exponent would be none that Redis adds to."""
    source = "#!lua\nreturn redis.call('ECHO', tonumber(ARGV[1]))"
    assert usage_redis.eval(source, 0, str(number)) == str(number).encode()
