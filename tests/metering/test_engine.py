"""Admission and settling, one outcome after the other, on a real Valkey."""

import threading
from uuid import UUID

import pytest
import redis

from core.ids import event_time_ms
from core.redis_layout import organization_key, refusals_key, reservations_key, stream_key, usage_key
from metering.calls import USAGE_KEPT_MS
from metering.engine import (
    Admission,
    Admitted,
    Engine,
    NoState,
    Refused,
    RestoreOutcome,
    Settlement,
    SettleOutcome,
    Stale,
    TrackedEvent,
    Verdict,
    WrongSpan,
    claim_digest,
)
from metering.script_calls import admit_call
from tests.metering.engine_kit import (
    FOREVER,
    KEY,
    METER,
    ORG,
    PERIOD,
    SHARD,
    USAGE,
    counters,
    make_admission,
    open_organization,
    run_at,
)

NOW = 1_800_000_000_123_457  # the time that a test tells a script
PAST = 1_600_000_000_000_000  # so that the sweep, by the server's clock, finds it expired


@pytest.fixture
def engine(usage_redis: "redis.Redis") -> Engine:
    open_organization(usage_redis)
    return Engine(usage_redis)


def admitted(engine: Engine, request: Admission) -> Admitted:
    answer = engine.admit(request)
    assert isinstance(answer, Admitted)
    return answer


def refused(engine: Engine, request: Admission) -> Refused:
    answer = engine.admit(request)
    assert isinstance(answer, Refused)
    return answer


def event(claim: str, units: int = 1, org_id: int = ORG) -> TrackedEvent:
    return TrackedEvent(org_id, "live", PERIOD, METER, units, claim, FOREVER, b'{"id":"x"}')


# --- admission ---------------------------------------------------------------------------------------------------


def test_admission_reserves_and_dates_the_event_by_redis(engine: Engine) -> None:
    seconds, micros = engine.client.time()
    answer = admitted(engine, make_admission(units=5, quota=20))
    assert 0 <= answer.occurred_at_us - (seconds * 1_000_000 + micros) < 5_000_000
    assert isinstance(answer.event_id, UUID)
    assert event_time_ms(answer.event_id) == answer.occurred_at_us // 1000
    assert counters(engine.client) == (0, 5)
    assert answer.quota is not None
    assert (answer.used, answer.quota.remaining, answer.epoch) == (5, 15, "epoch")


def test_unknown_organization_has_no_state(engine: Engine) -> None:
    assert isinstance(engine.admit(make_admission(org_id=999)), NoState)


def test_lost_shard_has_no_state_even_where_the_organization_was_kept(engine: Engine) -> None:
    engine.client.delete("fb1:{s17}:shard")
    assert isinstance(engine.admit(make_admission()), NoState)


def test_older_record_is_stale_and_newer_one_passes(engine: Engine) -> None:
    assert isinstance(engine.admit(make_admission(version=2)), Stale)
    assert isinstance(engine.admit(make_admission(version=4)), Admitted)


def test_time_outside_the_span_tells_the_servers_time(engine: Engine) -> None:
    call = admit_call(make_admission(span_start_us=NOW, span_end_us=NOW + 10))
    assert run_at(engine, call, NOW - 1) == WrongSpan(NOW - 1)
    assert isinstance(run_at(engine, call, NOW), Admitted)
    assert run_at(engine, call, NOW + 10) == WrongSpan(NOW + 10)


def test_closed_door_refuses_with_its_code_and_counts_it(engine: Engine) -> None:
    answer = refused(engine, make_admission(refusal="suspended"))
    counted = engine.client.hgetall(refusals_key(SHARD, answer.occurred_at_us // 60_000_000))
    assert (answer.code, answer.retry_after_s) == ("suspended", 0)
    assert counted == {f"{ORG}:live:{KEY}:suspended".encode(): b"1"}


def test_limit_refuses_the_call_after_the_last_and_says_when(engine: Engine) -> None:
    request = make_admission(windows=[(60, 2)])
    first = run_at(engine, admit_call(request), NOW)
    run_at(engine, admit_call(make_admission(windows=[(60, 2)])), NOW + 1)
    third = run_at(engine, admit_call(make_admission(windows=[(60, 2)])), NOW + 2)
    assert isinstance(first, Admitted)
    assert isinstance(third, Refused)
    assert first.windows[0].remaining == 1
    assert (third.code, third.windows[0].remaining) == ("rate_limited", 0)
    again = NOW + 2 + third.retry_after_s * 1_000_000
    assert isinstance(run_at(engine, admit_call(make_admission(windows=[(60, 2)])), again), Admitted)
    assert 60 <= third.retry_after_s <= 61


def test_keys_own_limit_is_named_apart_and_frees_nothing_of_the_organization(engine: Engine) -> None:
    request = {"windows": [(60, 10)], "key_windows": [(60, 1)]}
    admitted(engine, make_admission(**request))
    answer = refused(engine, make_admission(**request))
    assert answer.code == "key_rate_limited"
    assert [state.remaining for state in answer.windows] == [9, 0]
    other_key = admitted(engine, make_admission(**request, key_id=KEY + 1))
    assert other_key.windows[0].remaining == 8


def test_test_mode_has_limits_and_counters_of_its_own(engine: Engine) -> None:
    admitted(engine, make_admission(windows=[(60, 1)], quota=1))
    admitted(engine, make_admission(windows=[(60, 1)], quota=1, mode="test"))
    assert counters(engine.client) == (0, 1)
    assert counters(engine.client, usage_key(SHARD, ORG, "test", PERIOD)) == (0, 1)


def test_quota_counts_settled_and_reserved_and_uses_its_own_code(engine: Engine) -> None:
    request = make_admission(quota=3, units=2)
    admitted(engine, request)
    engine.settle(Settlement.of(request, units=1, event=b"{}"))
    admitted(engine, make_admission(quota=3, units=2))
    answer = refused(engine, make_admission(quota=3, units=1, quota_code="trial_quota_reached"))
    assert (answer.code, answer.used) == ("trial_quota_reached", 3)
    assert answer.quota is not None
    assert answer.retry_after_s == answer.quota.reset_s > 0


def test_a_call_that_the_quota_refuses_does_not_count_in_windows(engine: Engine) -> None:
    answer = refused(engine, make_admission(quota=0, windows=[(60, 5)]))
    assert answer.windows[0].remaining == 5
    assert engine.client.keys("*:rl:*") == []


def test_counters_outlive_their_period_by_a_hundred_days(engine: Engine) -> None:
    admitted(engine, make_admission(span_end_us=NOW + 1_000_000))
    assert engine.client.pexpiretime(USAGE) == (NOW + 1_000_000) // 1000 + USAGE_KEPT_MS


@pytest.mark.parametrize(
    "changes",
    [{"units": -1}, {"units": 2**53}, {"quota": 2**53}, {"windows": [(0, 1)]}, {"windows": [(60, 2**32)]}],
)
def test_numbers_that_cannot_be_counted_are_refused_before_redis(
    engine: Engine, changes: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match="must be|window"):
        engine.admit(make_admission(**changes))


# --- settling ----------------------------------------------------------------------------------------------------


def test_settling_moves_reserved_to_settled_and_appends_one_event(engine: Engine) -> None:
    request = make_admission(units=5)
    admitted(engine, request)
    answer = engine.settle(Settlement.of(request, units=3, event=b'{"id":"a"}'))
    [(_, entry)] = engine.client.xrange(stream_key(SHARD))
    assert (answer.outcome, answer.seq) == (SettleOutcome.SETTLED, 1)
    assert entry == {b"e": b'{"id":"a"}', b"q": b"epoch:1"}
    assert counters(engine.client) == (3, 0)


def test_settling_twice_is_settling_once(engine: Engine) -> None:
    request = make_admission()
    admitted(engine, request)
    settlement = Settlement.of(request, units=1, event=b"{}")
    outcomes = [engine.settle(settlement).outcome for _ in range(3)]
    assert outcomes == [SettleOutcome.SETTLED, SettleOutcome.DONE, SettleOutcome.DONE]
    assert engine.client.xlen(stream_key(SHARD)) == 1
    assert counters(engine.client) == (1, 0)


def test_racing_settles_of_one_call_write_one_event(engine: Engine) -> None:
    requests = [make_admission() for _ in range(50)]
    for request in requests:
        admitted(engine, request)
    gate = threading.Barrier(4)

    def settle_all() -> None:
        gate.wait()
        for request in requests:
            engine.settle(Settlement.of(request, units=1, event=b"{}"))

    threads = [threading.Thread(target=settle_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert engine.client.xlen(stream_key(SHARD)) == 50
    assert counters(engine.client) == (50, 0)


def test_events_are_numbered_without_gaps(engine: Engine) -> None:
    for _ in range(5):
        request = make_admission()
        admitted(engine, request)
        engine.settle(Settlement.of(request, units=1, event=b"{}"))
    numbers = [entry[b"q"] for _, entry in engine.client.xrange(stream_key(SHARD))]
    assert numbers == [f"epoch:{n}".encode() for n in range(1, 6)]


def test_call_that_is_not_billed_is_a_row_of_quantity_zero(engine: Engine) -> None:
    request = make_admission()
    admitted(engine, request)
    answer = engine.settle(Settlement.of(request, units=0, event=b"{}"))
    assert answer.is_recorded
    assert counters(engine.client) == (0, 0)


def test_more_than_reserved_is_a_new_admission_of_the_true_size(engine: Engine) -> None:
    request = make_admission(units=2, quota=5)
    admitted(engine, request)
    too_much = engine.settle(Settlement.of(request, units=6, event=b"{}"))
    assert too_much.outcome is SettleOutcome.EXPIRED
    assert counters(engine.client) == (0, 2)
    assert engine.settle(Settlement.of(request, units=5, event=b"{}")).outcome is SettleOutcome.SETTLED
    assert counters(engine.client) == (5, 0)


# --- expiry ------------------------------------------------------------------------------------------------------


def test_expired_reservation_settles_while_there_is_room(engine: Engine) -> None:
    request = make_admission(units=2, quota=5)
    run_at(engine, admit_call(request), PAST)
    assert engine.sweep(SHARD) == 1
    assert counters(engine.client) == (0, 0)
    assert engine.settle(Settlement.of(request, units=2, event=b"{}")).outcome is SettleOutcome.SETTLED
    assert counters(engine.client) == (2, 0)


def test_expired_reservation_without_room_cuts_and_leaves_a_row_of_zero(engine: Engine) -> None:
    request = make_admission(units=2, quota=2)
    run_at(engine, admit_call(request), PAST)
    engine.sweep(SHARD)
    admitted(engine, make_admission(units=1, quota=2))
    settlement = Settlement.of(request, units=2, event=b"{}")
    assert engine.settle(settlement).outcome is SettleOutcome.EXPIRED
    assert engine.client.xlen(stream_key(SHARD)) == 0
    assert engine.settle(settlement.unbilled(b'{"reason":"expired"}')).outcome is SettleOutcome.SETTLED
    assert engine.settle(settlement).outcome is SettleOutcome.DONE
    assert counters(engine.client) == (0, 1)


def test_returned_reservation_of_a_changed_organization_is_expired(engine: Engine) -> None:
    request = make_admission()
    admitted(engine, request)
    engine.release(request.reservation)
    open_organization(engine.client, version=4)
    assert engine.settle(Settlement.of(request, units=1, event=b"{}")).outcome is SettleOutcome.EXPIRED


def test_open_reservation_settles_though_the_organization_changed(engine: Engine) -> None:
    request = make_admission()
    admitted(engine, request)
    open_organization(engine.client, version=4)
    assert engine.settle(Settlement.of(request, units=1, event=b"{}")).outcome is SettleOutcome.SETTLED


def test_next_admission_returns_four_expired_reservations(engine: Engine) -> None:
    for _ in range(6):
        run_at(engine, admit_call(make_admission(quota=6)), NOW)
    assert isinstance(run_at(engine, admit_call(make_admission(quota=6)), NOW + 59_000_000), Refused)
    later = run_at(engine, admit_call(make_admission(quota=6)), NOW + 60_000_000)
    assert isinstance(later, Admitted)
    assert later.used == 3
    assert engine.client.zcard(reservations_key(SHARD, ORG)) == 3


def test_refused_admission_returns_expired_reservations_too(engine: Engine) -> None:
    for _ in range(10):
        run_at(engine, admit_call(make_admission(quota=10)), NOW)
    answer = run_at(engine, admit_call(make_admission(quota=5)), NOW + 60_000_000)
    assert isinstance(answer, Refused)
    assert counters(engine.client) == (0, 6)


def test_renewed_reservation_stays(engine: Engine) -> None:
    request, other = make_admission(), make_admission()
    admitted(engine, request)
    assert engine.renew([request.reservation, other.reservation]) == [True, False]
    [(_, expires)] = engine.client.zrange(reservations_key(SHARD, ORG), 0, -1, withscores=True)
    assert expires > NOW - 10**14


def test_renewing_asks_each_shard_once_and_answers_in_order(engine: Engine) -> None:
    engine.client.hset(organization_key(3, ORG), "v", "3")
    engine.client.hset("fb1:{s03}:shard", "epoch", "other")
    mine, elsewhere = make_admission(), make_admission(shard=3)
    admitted(engine, elsewhere)
    assert engine.renew([mine.reservation, elsewhere.reservation]) == [False, True]


def test_released_reservation_is_given_back_once(engine: Engine) -> None:
    request = make_admission(units=3)
    admitted(engine, request)
    assert [engine.release(request.reservation) for _ in range(2)] == [True, False]
    assert counters(engine.client) == (0, 0)


def test_sweep_empties_the_shard_and_forgets_its_holders(engine: Engine) -> None:
    for _ in range(230):
        run_at(engine, admit_call(make_admission(life_seconds=1)), 1_000_000)
    assert engine.sweep(SHARD) == 230
    assert engine.client.keys("*:res*") == []
    assert counters(engine.client) == (0, 0)


def test_sweep_leaves_open_reservations(engine: Engine) -> None:
    admitted(engine, make_admission())
    assert engine.sweep(SHARD) == 0
    assert counters(engine.client) == (0, 1)


# --- reported usage, refusals, rebuild, cut ----------------------------------------------------------------------


def test_reported_usage_counts_once_and_closes_the_door(engine: Engine) -> None:
    verdicts = engine.track(
        SHARD, [event("a", 10), event("b", 5), event("a", 10), event("c", org_id=ORG + 1)]
    )
    assert verdicts == [Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.NO_STATE]
    assert counters(engine.client) == (15, 0)
    assert engine.track(SHARD, [event("a", 10)]) == [Verdict.DUPLICATE]
    assert refused(engine, make_admission(quota=10)).used == 15


def test_large_batch_keeps_order_and_numbers(engine: Engine) -> None:
    verdicts = engine.track(SHARD, [event(str(n)) for n in range(1000)])
    assert verdicts == [Verdict.ACCEPTED] * 1000
    last = engine.client.xrevrange(stream_key(SHARD), count=1)[0][1]
    assert last[b"q"] == b"epoch:1000"


def test_reported_usage_that_leaves_the_exact_numbers_is_out_of_range(engine: Engine) -> None:
    assert engine.track(SHARD, [event("a", 2**53 - 1), event("b", 1)]) == [
        Verdict.ACCEPTED,
        Verdict.OUT_OF_RANGE,
    ]
    assert counters(engine.client) == (2**53 - 1, 0)


def test_claims_of_different_callers_differ() -> None:
    assert claim_digest("a", "b1") != claim_digest("ab", "1")
    assert claim_digest("a", "b1") == claim_digest("a", "b1")


def test_refusals_without_admission_are_counted_per_minute(engine: Engine) -> None:
    engine.record_refusal(SHARD, ORG, "live", KEY, "scope")
    engine.record_refusal(SHARD, ORG, "live", KEY, "scope", times=2)
    [key] = engine.client.keys("*:ref:*")
    assert engine.client.hgetall(key) == {f"{ORG}:live:{KEY}:scope".encode(): b"3"}
    assert 6 * 86_400 < engine.client.ttl(key) <= 7 * 86_400


def test_restored_organization_goes_on_where_the_ledger_stood(engine: Engine) -> None:
    request = make_admission(units=1, quota=10)
    admitted(engine, request)
    engine.client.flushall()
    assert isinstance(engine.admit(make_admission()), NoState)
    lost = Settlement.of(request, units=1, event=b"{}")
    assert engine.settle(lost).outcome is SettleOutcome.NO_STATE
    restored = engine.restore(SHARD, ORG, 3, "second", {USAGE: {METER: 9}}, expires_ms=FOREVER // 1000)
    assert restored is RestoreOutcome.RESTORED
    answer = admitted(engine, make_admission(quota=10))
    assert (answer.used, answer.epoch) == (10, "second")
    assert engine.settle(lost).outcome is SettleOutcome.EXPIRED  # a new admission, and there is no room


def test_restore_leaves_an_organization_alone_that_has_its_state(engine: Engine) -> None:
    engine.track(SHARD, [event("a", 4)])
    answer = engine.restore(SHARD, ORG, 9, "second", {USAGE: {METER: 1}}, expires_ms=FOREVER // 1000)
    assert answer is RestoreOutcome.PRESENT
    assert counters(engine.client) == (4, 0)
    assert engine.client.hget(organization_key(SHARD, ORG), "v") == b"3"


def test_restore_never_overwrites_a_counter(engine: Engine) -> None:
    engine.track(SHARD, [event("a", 4)])
    engine.client.delete(organization_key(SHARD, ORG))
    engine.restore(SHARD, ORG, 3, "second", {USAGE: {METER: 1}}, expires_ms=FOREVER // 1000)
    assert counters(engine.client) == (4, 0)


def test_cut_reads_counters_and_number_together(engine: Engine) -> None:
    admitted(engine, make_admission(units=2))
    engine.track(SHARD, [event("a", 4)])
    absent = usage_key(SHARD, ORG, "test", PERIOD)
    cut = engine.cut(SHARD, [USAGE, absent])
    assert (cut.epoch, cut.seq) == ("epoch", 1)
    assert cut.counters == {USAGE: {METER: (4, 2)}, absent: {}}
