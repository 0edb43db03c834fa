"""Limits and quotas under four processes at once, judged by brute force over what was admitted (STACK.md, R7)."""

import itertools
import multiprocessing
import os
import random
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import TypeVar

import pytest
import redis

from core.redis_layout import stream_key
from metering.engine import Admitted, Engine, Refused, Settlement
from metering.script_calls import admit_call
from metering.scripts import build_script
from tests.metering.engine_kit import SHARD, counters, make_admission, open_organization
from tests.metering.test_limits import worst_window

PROCESSES = 4
LIMIT = 100
T = TypeVar("T")


def in_processes(work: Callable[..., T], *arguments: object) -> list[T]:
    """The same work in four processes of their own, begun together."""
    begin = time.monotonic() + 1.0
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
        jobs = [pool.submit(work, begin, n, *arguments) for n in range(PROCESSES)]
        return [job.result() for job in jobs]


def _engine() -> Engine:
    return Engine(redis.Redis.from_url(os.environ["REDIS_URL"]))


def _hammer(begin: float, number: int, seconds: int, speed: int) -> tuple[list[int], list[int]]:
    """Twenty times the limit for three and a half windows; the times of what was admitted and refused. With `speed` the server's
    clock runs that many times as fast, so that windows of a minute pass in seconds."""
    fast = (
        f"local function clock() local t = redis.call('TIME') "
        f"return 1700000000000000 + (t[1] % 1000000 * 1000000 + t[2]) * {speed} end"
    )
    script = build_script("admit", clock=fast if speed > 1 else None)
    engine, admitted, refused = _engine(), [], []
    rate = 20 * LIMIT / seconds * speed / PROCESSES
    for n in range(int(rate * 3.5 * seconds / speed)):
        time.sleep(max(0.0, begin + (n + number / PROCESSES) / rate - time.monotonic()))
        request = make_admission(windows=[(seconds, LIMIT)])
        answer = engine.run(replace(admit_call(request), script=script))
        if isinstance(answer, Admitted):
            admitted.append(answer.occurred_at_us)
        elif isinstance(answer, Refused):
            refused.append(answer.occurred_at_us)
    return admitted, refused


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "speed"), [(2, 1), (60, 30)])
def test_limit_is_never_passed_in_any_window_and_hardly_missed(
    usage_redis: "redis.Redis", seconds: int, speed: int
) -> None:
    open_organization(usage_redis)
    answers = in_processes(_hammer, seconds, speed)
    admitted = sorted(itertools.chain.from_iterable(times for times, _ in answers))
    refused = sorted(itertools.chain.from_iterable(times for _, times in answers))
    assert worst_window(admitted, seconds) == LIMIT
    assert len(admitted) >= 3 * LIMIT
    assert len(refused) > 10 * len(admitted)
    # At most 0.5 % too few: whoever was refused would have been one too many in a window longer by so much.
    longer = seconds * 1_005_000
    assert min(bisect_right(admitted, at) - bisect_left(admitted, at - longer) for at in refused) >= LIMIT


def _use_up(begin: float, number: int, quota: int, units: int) -> tuple[int, int]:
    """Ask until refused ten times in a row; how many calls were admitted and how many units were settled."""
    rng, engine = random.Random(number), _engine()
    admitted = settled = refused = 0
    time.sleep(max(0.0, begin - time.monotonic()))
    while refused < 10:
        request = make_admission(quota=quota, units=units)
        if not isinstance(engine.admit(request), Admitted):
            refused += 1
            continue
        refused, admitted = 0, admitted + 1
        actual = rng.randint(1, units)
        settlement = Settlement.of(request, units=actual, event=b"{}")
        for _ in range(rng.randint(1, 2)):  # a repeated settle counts nothing
            assert engine.settle(settlement).is_recorded
        settled += actual
    return admitted, settled


def test_quota_lets_exactly_as_many_through(usage_redis: "redis.Redis") -> None:
    open_organization(usage_redis)
    done = in_processes(_use_up, 1000, 1)
    assert sum(admitted for admitted, _ in done) == 1000
    assert counters(usage_redis) == (1000, 0)
    assert usage_redis.xlen(stream_key(SHARD)) == 1000


def test_quota_with_reservations_is_never_passed_and_used_to_the_last_size(
    usage_redis: "redis.Redis",
) -> None:
    open_organization(usage_redis)
    done = in_processes(_use_up, 1000, 5)
    settled = sum(settled for _, settled in done)
    assert 1000 - 5 < settled <= 1000
    assert counters(usage_redis) == (settled, 0)
    assert usage_redis.xlen(stream_key(SHARD)) == sum(admitted for admitted, _ in done)


def _settle_all(begin: float, number: int, nonces: list[int]) -> int:
    """Settle the same calls as three other processes; how many this one wrote."""
    engine = _engine()
    time.sleep(max(0.0, begin - time.monotonic()))
    return sum(
        engine.settle(Settlement.of(make_admission(nonce=n), units=1, event=b"{}")).seq > 0 for n in nonces
    )


def test_a_call_settled_by_four_processes_is_written_once(usage_redis: "redis.Redis") -> None:
    open_organization(usage_redis)
    requests = [make_admission() for _ in range(300)]
    for request in requests:
        Engine(usage_redis).admit(request)
    written = in_processes(_settle_all, [request.nonce for request in requests])
    assert sum(written) == 300
    assert counters(usage_redis) == (300, 0)
    assert usage_redis.xlen(stream_key(SHARD)) == 300
