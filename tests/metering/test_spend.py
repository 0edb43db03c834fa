"""The spend cap and the limit on calls at once in the scripts: against the model's arithmetic, and one outcome after another."""

import random

import pytest
import redis

from core.redis_layout import reservations_key
from metering.engine import Admitted, Engine, Refused, Settlement, SettleOutcome, TrackedEvent
from metering.script_calls import admit_call
from plans.cap_table import GRAINS, LARGEST, LARGEST_CAP_MINOR, MeterTable, Segment, SpendLimit
from tests.metering.engine_kit import (
    FOREVER,
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

NOW = 1_800_000_000_123_457
CENT_EACH = MeterTable(METER, (Segment(0, 0, GRAINS, 1),))
OTHER = METER + 1


@pytest.fixture
def engine(usage_redis: "redis.Redis") -> Engine:
    open_organization(usage_redis)
    return Engine(usage_redis)


def code_of(engine: Engine, **changes: object) -> str:
    """The refusal of one call; '' when it was admitted."""
    answer = engine.admit(make_admission(**changes))
    assert isinstance(answer, Admitted | Refused)
    return answer.code if isinstance(answer, Refused) else ""


def test_cap_lets_the_last_affordable_call_through_and_refuses_the_next(engine: Engine) -> None:
    spend = SpendLimit(3, (CENT_EACH,))
    assert [code_of(engine, spend=spend) for _ in range(4)] == ["", "", "", "spend_cap_reached"]
    assert counters(engine.client) == (0, 3)


def test_cap_tells_to_wait_for_the_periods_end(engine: Engine) -> None:
    request = make_admission(spend=SpendLimit(0, (CENT_EACH,)), span_end_us=NOW + 90_000_000)
    answer = run_at(engine, admit_call(request), NOW)
    assert isinstance(answer, Refused)
    assert (answer.code, answer.retry_after_s) == ("spend_cap_reached", 90)


def test_included_units_pass_under_a_cap_of_nothing(engine: Engine) -> None:
    spend = SpendLimit(0, (MeterTable(METER, (Segment(2, 0, GRAINS, 1),)),))
    assert [code_of(engine, spend=spend) for _ in range(3)] == ["", "", "spend_cap_reached"]


def test_all_meters_of_a_period_spend_from_one_cap(engine: Engine) -> None:
    spend = SpendLimit(4, (CENT_EACH, MeterTable(OTHER, (Segment(0, 0, 2 * GRAINS, 1),))))
    assert code_of(engine, spend=spend, units=2) == ""
    assert code_of(engine, spend=spend, meter_id=OTHER) == ""
    assert code_of(engine, spend=spend) == "spend_cap_reached"
    assert code_of(engine, spend=spend, period_id=PERIOD + 1) == ""


def test_a_meter_without_price_passes_until_the_cap_is_passed_by_others(engine: Engine) -> None:
    spend = SpendLimit(2, (CENT_EACH,))
    assert code_of(engine, spend=spend, units=2) == ""
    assert code_of(engine, spend=spend, meter_id=OTHER) == ""
    engine.track(SHARD, [reported(1)])
    assert code_of(engine, spend=spend, meter_id=OTHER) == "spend_cap_reached"


def test_reported_usage_is_recorded_above_the_cap_and_closes_the_door(engine: Engine) -> None:
    spend = SpendLimit(5, (CENT_EACH,))
    assert code_of(engine, spend=spend) == ""
    [verdict] = engine.track(SHARD, [reported(500)])
    assert verdict == "accepted"
    assert counters(engine.client) == (500, 1)
    assert code_of(engine, spend=spend) == "spend_cap_reached"
    assert code_of(engine, spend=SpendLimit(502, (CENT_EACH,))) == ""


def test_what_a_call_did_not_use_may_be_spent_by_the_next(engine: Engine) -> None:
    spend = SpendLimit(5, (CENT_EACH,))
    request = make_admission(spend=spend, units=5)
    assert isinstance(engine.admit(request), Admitted)
    assert code_of(engine, spend=spend) == "spend_cap_reached"
    engine.settle(Settlement.of(request, units=3, event=b"{}"))
    assert code_of(engine, spend=spend, units=2) == ""


def test_expired_reservations_of_all_meters_are_returned_before_the_cap_is_asked(engine: Engine) -> None:
    spend = SpendLimit(3, (CENT_EACH, MeterTable(OTHER, (Segment(0, 0, GRAINS, 1),))))
    for meter_id in (METER, OTHER, OTHER):
        run_at(engine, admit_call(make_admission(spend=spend, meter_id=meter_id)), NOW)
    full = run_at(engine, admit_call(make_admission(spend=spend)), NOW + 1)
    later = run_at(engine, admit_call(make_admission(spend=spend, units=3)), NOW + 61_000_000)
    assert isinstance(full, Refused)
    assert isinstance(later, Admitted)


def test_a_settle_without_its_reservation_asks_the_cap_again(engine: Engine) -> None:
    spend = SpendLimit(3, (CENT_EACH,))
    request = make_admission(spend=spend, units=2)
    assert isinstance(engine.admit(request), Admitted)
    engine.release(request.reservation)
    assert code_of(engine, spend=spend, units=2) == ""
    settlement = Settlement.of(request, units=2, event=b"{}")
    assert engine.settle(settlement).outcome is SettleOutcome.EXPIRED
    assert engine.settle(settlement.unbilled(b"{}")).outcome is SettleOutcome.SETTLED
    assert counters(engine.client) == (0, 2)


def test_a_settle_above_its_reservation_stays_under_the_cap(engine: Engine) -> None:
    request = make_admission(spend=SpendLimit(3, (CENT_EACH,)), units=2)
    assert isinstance(engine.admit(request), Admitted)
    assert engine.settle(Settlement.of(request, units=4, event=b"{}")).outcome is SettleOutcome.EXPIRED
    assert engine.settle(Settlement.of(request, units=3, event=b"{}")).outcome is SettleOutcome.SETTLED


def test_quota_is_named_before_the_cap_and_a_refused_call_counts_nowhere(engine: Engine) -> None:
    spend = SpendLimit(0, (CENT_EACH,))
    assert code_of(engine, spend=spend, quota=0, windows=[(60, 5)]) == "quota_exceeded"
    assert code_of(engine, spend=spend, windows=[(60, 5)]) == "spend_cap_reached"
    assert engine.client.keys("*:rl:*") == []


# --- calls at the same time --------------------------------------------------------------------------------------


def test_as_many_calls_at_once_as_the_plan_says(engine: Engine) -> None:
    first = make_admission(concurrency=2)
    assert isinstance(engine.admit(first), Admitted)
    assert code_of(engine, concurrency=2) == ""
    answer = engine.admit(make_admission(concurrency=2))
    assert isinstance(answer, Refused)
    assert (answer.code, answer.retry_after_s) == ("concurrency_limited", 1)
    engine.settle(Settlement.of(first, units=1, event=b"{}"))
    assert code_of(engine, concurrency=2) == ""


def test_calls_that_died_stop_counting_when_they_expire(engine: Engine) -> None:
    for _ in range(6):
        run_at(engine, admit_call(make_admission(concurrency=6)), NOW)
    crowded = run_at(engine, admit_call(make_admission(concurrency=6)), NOW + 59_000_000)
    later = run_at(engine, admit_call(make_admission(concurrency=1)), NOW + 60_000_000)
    assert isinstance(crowded, Refused)
    assert isinstance(later, Admitted)
    assert engine.client.zcard(reservations_key(SHARD, ORG)) == 3


# --- the script's arithmetic against the model's -----------------------------------------------------------------


def _random_table(rng: random.Random, meter_id: int) -> MeterTable:
    starts = sorted(rng.sample(range(10 ** rng.choice((1, 2, 6, 15)) + 8), rng.randint(1, 6)))
    rows = []
    for start in starts:
        den = rng.choice((1, 1, 3, 10, 10**6, -1, -7, -1000))
        num = rng.randrange(LARGEST // max(den, 1)) if rng.random() < 0.2 else rng.randrange(10**8)
        rows.append(Segment(start, rng.choice((0, rng.randrange(10**9), LARGEST)), num, den))
    maximum = rng.choice((LARGEST, rng.randrange(10**3) * GRAINS))
    return MeterTable(meter_id, tuple(rows), maximum, rng.choice((1, 1, 2, 5)))


def test_script_and_model_find_the_same_cost_for_any_prices(engine: Engine) -> None:
    """Caps beside the very cost: one that is just enough, one that is a minor unit too low."""
    rng, decided = random.Random(3), set()
    for _ in range(1500):
        tables = tuple(_random_table(rng, meter) for meter in range(2, 2 + rng.randint(1, 3)))
        counts = {
            t.meter_id: max(0, rng.choice(t.segments).start + rng.randint(-2, 10 ** rng.randint(1, 6)))
            for t in tables
        }
        engine.client.delete(USAGE)
        engine.client.hset(USAGE, mapping={str(meter): units for meter, units in counts.items()})
        cost = max(
            sum(t.exact(counts[t.meter_id]) for t in tables),
            sum(t.rounded(counts[t.meter_id]) for t in tables),
        )
        enough = -(-cost // GRAINS)
        for cap_minor in {enough, max(0, enough - 1), rng.randrange(LARGEST_CAP_MINOR)}:
            spend = SpendLimit(min(cap_minor, LARGEST_CAP_MINOR), tables)
            refused = code_of(engine, spend=spend, units=0, meter_id=2) == "spend_cap_reached"
            assert refused == spend.is_passed(counts), (tables, counts)
            decided.add(refused)
    assert decided == {True, False}


def reported(units: int) -> TrackedEvent:
    return TrackedEvent(ORG, "live", PERIOD, METER, units, f"c{units}", FOREVER, b"{}")
