"""Spend caps under eight processes that spend at random sizes at once, over four pricing models, judged by rating itself:
overspend 0, and at most one call's price left unspent. Also with one of them killed in the middle.
"""

import multiprocessing
import os
import random
import time
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from multiprocessing.connection import Connection

import pytest
import redis

from core.redis_layout import reservations_key, stream_key
from metering.engine import Admitted, Engine, Refused, Settlement
from metering.script_calls import admit_call
from plans.cap_table import SpendLimit, compile_meter
from plans.pricing import Terms, rate_period
from plans.tiers import PriceModel, PriceStep, UsagePrice, usage_tiers
from tests.metering.engine_kit import ORG, SHARD, counters, make_admission, open_organization, run_at

PROCESSES = 8
CENT = Fraction(1, 100)


def price(slug: str, model: str, included: int, each: str | None, **more: object) -> UsagePrice:
    unit_price = Decimal(each) if each is not None else None
    return UsagePrice(slug, "unit", Decimal(included), unit_price, PriceModel(model), **more)  # type: ignore[arg-type]


STEPS = (
    PriceStep(Decimal(500), Decimal("0.012")),
    PriceStep(Decimal(2000), Decimal("0.009"), Decimal("1.25")),
    PriceStep(None, Decimal("0.0041")),
)
# Meter id, decimals, its price, and the largest call in smallest units.
CATALOGUE = (
    (1, 0, price("calls", "per_unit", 0, "0.0137"), 9),
    (2, 0, price("searches", "included", 400, "0.021"), 7),
    (3, 3, price("gigabytes", "graduated", 0, None, steps=STEPS), 9_000),
    (4, 0, price("images", "package", 10, "0.35", package_size=Decimal(25)), 12),
)
PRICES = tuple(usage_price for _, _, usage_price, _ in CATALOGUE)
TABLES = tuple(compile_meter(meter, digits, "USD", [each]) for meter, digits, each, _ in CATALOGUE)
Counts = dict[int, int]


def cost_of(counts: Counts) -> tuple[int, Fraction]:
    """The statement's usage charges in cents by `rate_period`, and the exact price of the same usage in dollars."""
    quantities = [Decimal(counts.get(meter, 0)).scaleb(-digits) for meter, digits, _, _ in CATALOGUE]
    usage = {(p.meter, ""): q for p, q in zip(PRICES, quantities, strict=True)}
    tiers = [tier for p, q in zip(PRICES, quantities, strict=True) for tier in usage_tiers(p, q)]
    statement = rate_period(Terms("P", "USD", 0, PRICES), usage, charge_fee=False).total_minor
    return statement, sum((Fraction(tier.amount) for tier in tiers), Fraction(0))


@dataclass
class Spender:
    """One process: calls of random meters and sizes; smaller and smaller ones once the cap refuses, until not even one unit
    of the cheapest meter passes."""

    number: int
    cap_minor: int

    def run(self, answers: Connection, begin: float) -> None:
        rng = random.Random(self.number)
        engine = Engine(redis.Redis.from_url(os.environ["REDIS_URL"]))
        spend, passed = SpendLimit(self.cap_minor, TABLES), 0
        time.sleep(max(0.0, begin - time.monotonic()))
        refused = 0
        while refused < 40:
            meter, _, _, largest = rng.choice(CATALOGUE)
            units = rng.randint(1, largest if refused < 5 else max(1, largest // 4 ** (refused // 5)))
            request = make_admission(meter_id=meter, units=units, spend=spend)
            answer = engine.admit(request)
            if isinstance(answer, Admitted):
                refused = 0 if refused < 5 else refused
                passed += 1
                actual = rng.randint((units + 1) // 2, units)
                settlement = Settlement.of(request, units=actual, event=b"{}")
                for _ in range(rng.choice((1, 1, 2))):  # a repeated settle spends nothing
                    assert engine.settle(settlement).is_recorded
            else:
                assert isinstance(answer, Refused)
                assert answer.code == "spend_cap_reached"
                refused += 1
        answers.send(passed)


def spend_together(cap_minor: int, *, kill_after: int = 0, client: "redis.Redis | None" = None) -> list[int]:
    """Eight processes at once; calls that each passed. The first may be killed when so many events are written."""
    context, begin = multiprocessing.get_context("fork"), time.monotonic() + 0.5
    started = []
    for number in range(PROCESSES):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=Spender(number, cap_minor).run, args=(theirs, begin))
        process.start()
        theirs.close()
        started.append((process, ours))
    if client is not None:
        while client.xlen(stream_key(SHARD)) < kill_after:
            time.sleep(0.001)
        started[0][0].kill()
    passed = []
    for process, ours in started:
        process.join(timeout=120)
        if process.exitcode == 0:
            passed.append(ours.recv())
    return passed


def held(client: "redis.Redis") -> Counts:
    return {meter: sum(counters(client, meter=meter)) for meter, *_ in CATALOGUE}


def spend_the_rest(engine: Engine, cap_minor: int) -> None:
    """One smallest unit after the other of every meter, until none passes: what is left is less than one such call."""
    spend = SpendLimit(cap_minor, TABLES)
    for meter, *_ in CATALOGUE:
        while isinstance(engine.admit(request := make_admission(meter_id=meter, spend=spend)), Admitted):
            engine.settle(Settlement.of(request, units=1, event=b"{}"))


def check_spent_exactly(client: "redis.Redis", cap_minor: int) -> None:
    """Overspend 0, by statement and by exact price; not one more unit of any meter would have fitted."""
    counts = held(client)
    statement, exact = cost_of(counts)
    assert statement <= cap_minor
    assert exact <= cap_minor * CENT
    for meter, *_ in CATALOGUE:
        more, more_exact = cost_of(counts | {meter: counts[meter] + 1})
        assert more > cap_minor or more_exact > cap_minor * CENT
    # What rounding the lines half up takes off, in the customer's favour.
    assert cap_minor - statement <= len(CATALOGUE) / 2


@pytest.mark.slow
@pytest.mark.parametrize("cap_minor", [997, 2_500, 6_001])
def test_eight_processes_spend_to_the_cap_and_not_beyond(usage_redis: "redis.Redis", cap_minor: int) -> None:
    open_organization(usage_redis)
    passed = spend_together(cap_minor)
    assert len(passed) == PROCESSES
    assert min(passed) > 0
    assert sum(counters(usage_redis, meter=meter)[1] for meter, *_ in CATALOGUE) == 0
    assert usage_redis.xlen(stream_key(SHARD)) == sum(passed)
    spend_the_rest(Engine(usage_redis), cap_minor)
    check_spent_exactly(usage_redis, cap_minor)


@pytest.mark.slow
def test_a_killed_spender_leaves_what_it_held_to_the_others(usage_redis: "redis.Redis") -> None:
    cap_minor = 60_013
    open_organization(usage_redis)
    passed = spend_together(cap_minor, kill_after=300, client=usage_redis)
    assert len(passed) == PROCESSES - 1
    counts = held(usage_redis)
    assert cost_of(counts)[1] <= cap_minor * CENT  # with what the dead one still holds
    engine = Engine(usage_redis)
    later = time.time_ns() // 1000 + 61_000_000
    run_at(engine, admit_call(make_admission(units=0, meter_id=99)), later)  # returns what has expired
    assert usage_redis.zcard(reservations_key(SHARD, ORG)) == 1  # this call's own
    spend_the_rest(engine, cap_minor)
    check_spent_exactly(usage_redis, cap_minor)
