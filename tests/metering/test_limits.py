"""The scripts against the model, step by step in the script's own time (STACK.md, R7), and the model against its definition."""

import random
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from core.ids import new_nonce
from core.redis_layout import refusals_key, reservations_key, stream_key, usage_key
from metering.calls import (
    Admission,
    Charge,
    Extended,
    Reservation,
    Settlement,
    Settling,
    TrackedEvent,
    Weighted,
)
from metering.engine import Admitted, Engine
from metering.limits import DoorModel, StrictWindow, bucket_of, bucket_start
from metering.script_calls import (
    admit_call,
    extend_call,
    release_call,
    renew_call,
    settle_call,
    sweep_call,
    track_call,
)
from plans.cap_table import GRAINS, MeterTable, Segment, SpendLimit
from tests.metering.engine_kit import (
    FOREVER,
    SHARD,
    counters,
    make_admission,
    open_organization,
    run_at,
    told,
)

START = 1_800_000_000_000_000


def worst_window(times: list[int], seconds: int) -> int:
    """The largest number of admissions in any half-open window, by brute force over the recorded times."""
    width = seconds * 1_000_000
    return max((bisect_left(times, first + width) - i for i, first in enumerate(times)), default=0)


# --- the model alone ---------------------------------------------------------------------------------------------


@given(
    seconds=st.sampled_from([1, 2, 7, 60, 3600, 86_400, 2_592_000]),
    limit=st.integers(1, 30),
    steps=st.lists(st.integers(0, 40_000_000), max_size=120),
)
def test_model_never_admits_more_than_the_limit_in_any_window(
    seconds: int, limit: int, steps: list[int]
) -> None:
    window, now, times = StrictWindow(seconds), START, []
    for step in steps:
        now += step * seconds // 60
        if window.used(now) < limit:
            window.count(now)
            times.append(now)
    assert worst_window(times, seconds) <= limit


@given(
    seconds=st.sampled_from([1, 2, 7, 60, 3600, 86_400, 2_592_000]),
    limit=st.integers(1, 5),
    steps=st.lists(st.integers(0, 30_000_000), min_size=1, max_size=40),
)
def test_model_admits_again_when_it_said_and_not_a_second_earlier_bucket(
    seconds: int, limit: int, steps: list[int]
) -> None:
    window, now = StrictWindow(seconds), START
    for step in steps:
        now += step * seconds // 60
        if window.used(now) < limit:
            window.count(now)
    if window.used(now) >= limit:
        after = window.retry_after(now, limit)
        assert window.used(now + after * 1_000_000) < limit
        assert window.used(now + (after - 1) * 1_000_000) >= limit
    assert window.used(now + window.reset(now) * 1_000_000) == 0


@given(st.integers(0, 2**51), st.sampled_from([1, 3, 60, 61, 86_400]))
def test_a_bucket_begins_at_its_first_microsecond(now_us: int, seconds: int) -> None:
    bucket = bucket_of(now_us, seconds)
    assert bucket_start(bucket, seconds) <= now_us < bucket_start(bucket + 1, seconds)
    assert bucket_of(bucket_start(bucket, seconds), seconds) == bucket


def test_limiter_time_never_runs_back() -> None:
    window = StrictWindow(60)
    for _ in range(5):
        window.count(START)
    assert window.used(START - 10**9) == 5
    window.count(START - 10**9)
    assert window.used(START) == 6


# --- script against model ----------------------------------------------------------------------------------------


def _random_steps(rng: random.Random, count: int) -> Iterator[tuple[int, Admission]]:
    """Bursts, pauses and jumps longer than any window, around two limits of the organization and one of the key."""
    now = START
    for _ in range(count):
        now += rng.choice((0, 1, 300, 8_333, 40_000, 250_000, 500_000, rng.randrange(3_000_000)))
        if rng.random() < 0.001:
            now += rng.randrange(200_000_000)
        if rng.random() < 0.02:  # the last bucket that still counts, and the first that does not
            now += rng.choice((7_000_000, 60_000_000, 60_250_000))
        yield (
            now,
            make_admission(windows=[(60, 100), (7, 25)], key_windows=[(60, 60)], key_id=rng.randrange(2)),
        )


@pytest.mark.slow
@pytest.mark.no_cover  # the model's lines are counted by the tests above
def test_hundred_thousand_random_steps_agree_with_the_model(usage_redis: "redis.Redis") -> None:
    open_organization(usage_redis)
    model = DoorModel(versions={501: 3})
    steps = list(_random_steps(random.Random(7), 100_000))
    admitted: list[int] = []
    for start in range(0, len(steps), 500):
        part = steps[start : start + 500]
        replies = _pipelined(usage_redis, part)
        for (now, request), answer in zip(part, replies, strict=True):
            assert answer == model.admit(request, now_us=now)
            if isinstance(answer, Admitted):
                admitted.append(now)
        usage_redis.delete(
            reservations_key(SHARD, 501)
        )  # not what this test is about, and they would pile up
        model.reservations.clear()
    assert worst_window(admitted, 60) == 100
    assert worst_window(admitted, 7) == 25


def _pipelined(client: "redis.Redis", part: list[tuple[int, Admission]]) -> list[Any]:
    calls = [told(admit_call(request), now) for now, request in part]
    client.script_load(calls[0].script.source)
    pipeline = client.pipeline(transaction=False)
    for call in calls:
        pipeline.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
    return [call.parse(reply) for call, reply in zip(calls, pipeline.execute(), strict=True)]


CENT = GRAINS
TWO = MeterTable(2, (Segment(3, 0, CENT // 2, 1), Segment(8, 3 * CENT, CENT, 3)))
OTHER = MeterTable(22, (Segment(0, 0, 2 * CENT, -5),), maximum=9 * CENT, lines=2)
SPENDS = [SpendLimit(2, (TWO,)), SpendLimit(6, (TWO, OTHER)), SpendLimit(0, (OTHER,)), SpendLimit(1, ())]
ORGS = st.sampled_from([1, 2, 3])  # 3 has no state
REQUESTS = st.builds(
    make_admission,
    org_id=ORGS,
    mode=st.sampled_from(["live", "test"]),
    version=st.integers(2, 4),
    span_end_us=st.sampled_from([FOREVER, FOREVER, START + 400_000_000]),
    period_id=st.sampled_from([7, 7, 8]),
    quota=st.sampled_from([-1, 5, 12]),
    meter_id=st.sampled_from([2, 22]),
    units=st.sampled_from([0, 1, 1, 3]),
    windows=st.sampled_from([(), ((60, 4),), ((60, 3), (10, 2)), ((1, 2), (86_400, 4), (2_592_000, 5))]),
    key_id=st.sampled_from([40, 41]),
    key_windows=st.sampled_from([(), ((60, 2),)]),
    life_seconds=st.sampled_from([1, 60]),
    refusal=st.sampled_from(["", "", "", "", "suspended"]),
    concurrency=st.sampled_from([-1, -1, -1, 2]),
    spend=st.sampled_from([None, None, *SPENDS]),
)
# Calls with more than one charge: tokens beside money, a limit of the day, tokens a minute.
FURTHER = st.sampled_from([(), (Charge(22, 4, 9),), (Charge(22, 1), Charge(23, 5, 7, "tokens_used"))])
OF_DAY, OPENED = (
    Charge(23, 3, 8, "daily_token_limit_reached"),
    Charge("key40", 1, 2, "key_concurrency_limited"),
)
DAILY = st.sampled_from([(), (OF_DAY,), (OPENED,), (OF_DAY, OPENED, Charge("route9", 1, 5))])
WEIGHTED = st.sampled_from(
    [(), (Weighted("tokens", 60, 9, 4, "token_rate_limited"),), (Weighted("tokens", 10, 20, 7), Weighted("route:1", 60, 2, 1))]
)  # fmt: skip
MODEL_CALLS = st.builds(
    lambda request, further, daily, weighted: replace(
        request, meter_id=2, further=further, daily=daily, weighted=weighted
    ),
    REQUESTS, FURTHER, DAILY, WEIGHTED,
)  # fmt: skip


class DoorMachine(RuleBasedStateMachine):
    """Any order of acts leaves script and model with the same answers and the same counters."""

    client: "redis.Redis"
    admissions = Bundle("admissions")
    model_calls = Bundle("model_calls")  # (admission, its reservation, when)

    @initialize()
    def begin(self) -> None:
        self.client.flushdb()
        self.engine, self.model, self.now = Engine(self.client), DoorModel(), START
        for org_id in (1, 2):
            self.push(org_id, 3)

    @rule(org_id=st.sampled_from([1, 2]), version=st.integers(3, 4))
    def push(self, org_id: int, version: int) -> None:
        open_organization(self.client, org_id=org_id, version=version)
        self.model.versions[org_id] = version

    @rule(step=st.sampled_from([1, 40_000, 600_000, 5_000_000, 61_000_000, -2_000_000]))
    def wait(self, step: int) -> None:
        self.now += step

    @rule(target=admissions, request=REQUESTS)
    def admit(self, request: Admission) -> Admission:
        answer = run_at(self.engine, admit_call(request), self.now)
        assert answer == self.model.admit(request, now_us=self.now)
        return request

    @rule(target=model_calls, request=MODEL_CALLS)
    def admit_model_call(self, request: Admission) -> tuple[Admission, Reservation, int]:
        self.admit(request)
        return request, request.reserved_at(self.now), self.now

    @rule(call=consumes(model_calls), tokens=st.sampled_from([0, 1, 4, 8]), events=st.integers(0, 2))
    def settle_model_call(self, call: tuple[Admission, Reservation, int], tokens: int, events: int) -> None:
        request, reservation, at = call
        charges = (*request.charges, *request.daily)
        settled = [Settling(tokens + n, b"{}" if n < events else b"") for n in range(len(charges))]
        weights = {w.name: (w.weight, tokens) for w in request.weighted if w.name == "tokens"}
        settlement = Settlement.of_all(request, reservation, settled, at_us=at, weights=weights)
        assert self.engine.run(settle_call(settlement)) == self.model.settle(settlement)
        self.same_windows(request)

    @rule(target=model_calls, call=consumes(model_calls), units=st.integers(0, 4))
    def extend_model_call(
        self, call: tuple[Admission, Reservation, int], units: int
    ) -> tuple[Admission, Reservation, int]:
        request, reservation, at = call
        more = replace(
            request,
            units=units,
            further=tuple(replace(c, units=units) for c in request.further),
            daily=tuple(replace(c, units=units) for c in request.daily),
            weighted=tuple(replace(w, weight=units) for w in request.weighted if w.name == "tokens"),
        )
        answer = run_at(self.engine, extend_call(more, reservation, admitted_at_us=at), self.now)
        assert answer == self.model.extend(more, reservation, admitted_at_us=at, now_us=self.now)
        if not answer.is_reserved:
            return call
        longer = reservation.with_more((*more.charges, *more.daily))
        if units:
            again = run_at(self.engine, extend_call(more, reservation, admitted_at_us=at), self.now)
            assert again == Extended(True, self.now, "")  # a repetition reserves nothing
        return request, longer, at

    def same_windows(self, request: Admission) -> None:
        """What the windows still allow, asked with a call of no weight that the closed door of a script refuses."""
        asked = replace(
            request,
            weighted=tuple(replace(w, weight=0, limit=10**6) for w in request.weighted),
            nonce=new_nonce(),
        )
        asked = replace(
            asked, units=0, quota=0, spend=None, further=(Charge(99, 1, 0),), daily=(), concurrency=-1
        )
        self.admit(asked)

    @rule(request=admissions, units=st.sampled_from([0, 1, 3, 6]))
    def settle(self, request: Admission, units: int) -> None:
        settlement = Settlement.of(request, units=units, event=b"{}")
        assert self.engine.run(settle_call(settlement)) == self.model.settle(settlement)

    @rule(request=admissions, life=st.sampled_from([1, 60]))
    def renew(self, request: Admission, life: int) -> None:
        call = renew_call([request.reservation], life_seconds=life)
        expected = self.model.renew(request.reservation, now_us=self.now, life_seconds=life)
        assert run_at(self.engine, call, self.now) == [expected]

    @rule(request=admissions)
    def release(self, request: Admission) -> None:
        assert self.engine.run(release_call(request.reservation)) == self.model.release(request.reservation)

    @rule(org_id=ORGS)
    def sweep(self, org_id: int) -> None:
        found = run_at(self.engine, sweep_call(SHARD, org_id), self.now)
        assert found == self.model.sweep(org_id, now_us=self.now)

    @rule(
        org_id=ORGS,
        claims=st.lists(st.sampled_from("abc"), min_size=1, max_size=3),
        units=st.integers(0, 4),
        is_maximum=st.booleans(),
    )
    def track(self, org_id: int, claims: list[str], units: int, *, is_maximum: bool) -> None:
        meter = 3 if is_maximum else 2
        events = [
            TrackedEvent(
                org_id, "live", 7, meter, units + n, claim, FOREVER, b"{}", is_maximum, "d20000", units % 3
            )
            for n, claim in enumerate(claims)
        ]
        assert self.engine.run(track_call(SHARD, events)) == self.model.track(events)

    @invariant()
    def counters_agree(self) -> None:
        for (org_id, mode, period, meter), usage in self.model.usage.items():
            held = counters(self.client, usage_key(SHARD, org_id, mode, period), meter)
            assert held == (usage.settled, usage.reserved)
            assert usage.settled >= 0 <= usage.reserved

    @invariant()
    def reserved_is_the_sum_of_open_reservations(self) -> None:
        for name, usage in self.model.usage.items():
            held = self.model.reservations[name[0]]
            mine = [
                units
                for r in held
                for period, meter, units in ((f"{r.period_id}", r.meter_id, r.units), *r.further)
                if (r.org_id, r.mode, period, meter) == name
            ]
            assert usage.reserved == sum(mine)

    @invariant()
    def stream_and_refusals_agree(self) -> None:
        assert self.client.xlen(stream_key(SHARD)) == len(self.model.stream)
        for (minute, org_id, mode, key_id, code), times in self.model.refusals.items():
            field = f"{org_id}:{mode}:{key_id}:{code}"
            assert int(self.client.hget(refusals_key(SHARD, minute), field) or 0) == times


@pytest.mark.slow
def test_any_order_of_acts_agrees_with_the_model(usage_redis: "redis.Redis") -> None:
    DoorMachine.client = usage_redis
    run_state_machine_as_test(
        DoorMachine,
        settings=settings(
            max_examples=150,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
