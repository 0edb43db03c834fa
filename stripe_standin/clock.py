"""Time: what falls due is done in the order of its time, each step at the second it is due.

A timeline is a test clock's id, or None for everything that has none.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from stripe_standin.world import World


@dataclass(frozen=True, order=True)
class Due:
    at: int
    rank: int
    name: str
    act: Callable[[], object]


Finder = Callable[[World, str | None], list[Due]]
_FINDERS: list[Finder] = []


def due(finder: Finder) -> Finder:
    """Register a function that lists what will fall due on a timeline."""
    _FINDERS.append(finder)
    return finder


def next_due(world: World, timeline: str | None, until: int) -> Due | None:
    waiting = [each for finder in _FINDERS for each in finder(world, timeline) if each.at <= until]
    return min(waiting, key=lambda each: (each.at, each.rank, each.name), default=None)


def advance_wall(world: World, to: int) -> None:
    """Push the common clock to `to`. The lock is let go between steps, so that webhook handlers can read."""
    while True:
        with world.lock:
            step = next_due(world, None, to)
            table = world.store.table("_clock")
            if step is None:
                table["offset"] = max(world.offset, to - int(time.time()))
                table.pop("stepping", None)
                world.store.dirty = True
                return
            table["stepping"] = max(step.at, int(table.get("stepping", 0)))
            step.act()


def advance_test_clock(world: World, clock_id: str, to: int) -> None:
    while True:
        with world.lock:
            clock = world.store.peek("test_helpers.test_clock", clock_id)
            if clock is None:
                return
            step = next_due(world, clock_id, to)
            if step is None:
                clock.pop("_now", None)
                clock |= {"frozen_time": to, "status": "ready", "status_details": {}}
                world.emit("test_helpers.test_clock.ready", clock)
                world.store.dirty = True
                return
            clock["_now"] = max(step.at, clock["frozen_time"])
            step.act()


class Ticker:
    """Does what falls due on the common clock as real time passes."""

    def __init__(self, world: World, every: float = 0.5) -> None:
        self._world, self._every = world, every
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(self._every):
            with self._world.lock:
                if "stepping" in self._world.store.table("_clock"):
                    continue
                now = self._world.now()
                while step := next_due(self._world, None, now):
                    step.act()
                    self._world.store.dirty = True

    def stop(self) -> None:
        self._stopped.set()
