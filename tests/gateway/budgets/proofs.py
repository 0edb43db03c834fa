"""What has to hold of a rush on a budget, whatever Redis is behind it; what was counted goes to the figures."""

import asyncio
import os
import time
from collections.abc import Callable

from tests.gateway.budgets.kit import CLIENTS, FITS, LIFE_US, Budget, House, one_by_one, open_budget, rush
from tests.gateway.kit import wait_for

Record = Callable[[str, object], None]  # pytest's record_property; `make proofs` adds up what tests say
CODES = {"calls": "quota_exceeded", "tokens": "quota_exceeded", "money": "spend_cap_reached"}
KILLED_AFTER = 30
WAITS = bool(
    os.environ.get("FAREBOX_FIGURE_BUDGETS")
)  # for reservations to expire; else the sweep is told a later time


def assert_exactly_100(house: House, kind: str, record: Record, *, shard: int = 17) -> None:
    """All 500 are answered: 100 with what they wanted, 400 with why not; nothing is held afterwards."""
    house.hire()
    budget = open_budget(house, kind, shard=shard)
    seen = asyncio.run(rush(budget, [worker.url for worker in house.workers]))
    record("asked", CLIENTS)
    record("passed", seen.statuses[200])
    record(f"passed_{kind}", seen.statuses[200])
    assert (seen.statuses, seen.broken) == ({200: FITS, 429: CLIENTS - FITS}, 0), seen
    assert seen.codes == {CODES[kind]: CLIENTS - FITS}
    assert budget.held() == (FITS, 0)
    assert budget.open_reservations() == 0
    assert budget.billed() == FITS


def assert_at_most_100_with_a_death(house: House, kind: str, record: Record, *, shard: int = 17) -> None:
    """A worker is killed among answers: what it held stays held until its life ends, and is all there again then."""
    house.hire()
    budget = open_budget(house, kind, shard=shard)
    seen = asyncio.run(rush(budget, [w.url for w in house.workers], after=(KILLED_AFTER, house.kill)))
    killed_at = time.monotonic()
    passed = seen.statuses[200]
    record("passed_at_a_death", passed)
    assert seen.broken > 0, seen
    assert KILLED_AFTER <= passed <= FITS
    settled, reserved = budget.held()
    assert passed <= settled
    assert settled + reserved == FITS
    record("held_by_the_dead", reserved)

    record("given_back_s", _wait_until_given_back(budget, killed_at))
    rest = one_by_one(budget, house.workers[0])
    assert settled + rest == FITS
    assert budget.held() == (FITS, 0)
    assert budget.billed() == FITS
    record("used_in_the_end", settled + rest)


def _wait_until_given_back(budget: Budget, killed_at: float) -> int:
    """Whole seconds after the death."""

    def is_given_back() -> bool:
        budget.sweep(ahead_us=0 if WAITS else LIFE_US + 1_000_000)
        return budget.open_reservations() == 0 and budget.held()[1] == 0

    wait_for(is_given_back, within=LIFE_US / 1_000_000 + 5)
    return int(time.monotonic() - killed_at)
