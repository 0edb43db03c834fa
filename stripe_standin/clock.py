"""Time: what falls due is done in the order of its time, each step at the second it is due.

A timeline is a test clock's id, or None for everything that has none.
"""

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from stripe_standin.world import World

_MOST_REPEATS = 5


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


class _Steps:
    """Takes one due step after another; a step that falls due again and again without end is a fault of the stand-in."""

    def __init__(self, world: World, timeline: str | None, until: int) -> None:
        self._world, self._timeline, self._until = world, timeline, until
        self._last: tuple[int, int, str] | None = None
        self._repeated = 0

    def next(self) -> Due | None:
        step = next_due(self._world, self._timeline, self._until)
        if step is None:
            return None
        name = (step.at, step.rank, step.name)
        self._repeated = self._repeated + 1 if name == self._last else 0
        self._last = name
        if self._repeated > _MOST_REPEATS:
            raise RuntimeError(f"{name} falls due for ever")
        return step


def advance_wall(world: World, to: int) -> None:
    """Push the common clock to `to`. The lock is let go between steps, so that webhook handlers can read."""
    steps = _Steps(world, None, to)
    table = world.store.table("_clock")
    try:
        while True:
            with world.lock:
                step = steps.next()
                if step is None:
                    table["offset"] = max(world.offset, to - int(time.time()))
                    return
                table["stepping"] = max(step.at, int(table.get("stepping", 0)))
                step.act()
    finally:
        with world.lock:
            table.pop("stepping", None)
            world.store.dirty = True


def advance_test_clock(world: World, clock_id: str, to: int) -> None:
    try:
        _advance_test_clock(world, clock_id, to)
    except Exception:
        with world.lock:
            world.violations.append(f"test clock {clock_id}: {traceback.format_exc()}")
            clock = world.store.peek("test_helpers.test_clock", clock_id)
            if clock:
                clock |= {"status": "internal_failure", "status_details": {}}


def _advance_test_clock(world: World, clock_id: str, to: int) -> None:
    steps = _Steps(world, clock_id, to)
    while True:
        with world.lock:
            clock = world.store.peek("test_helpers.test_clock", clock_id)
            if clock is None:
                return
            step = steps.next()
            if step is None:
                clock.pop("_now", None)
                clock |= {"frozen_time": to, "status": "ready", "status_details": {}}
                world.emit("test_helpers.test_clock.ready", clock)
                world.store.dirty = True
                return
            clock["_now"] = max(step.at, clock["frozen_time"])
            step.act()


def resume(world: World) -> None:
    """Go on with clocks that were advancing when the process ended."""
    for clock in list(world.store.where("test_helpers.test_clock", status="advancing")):
        to = clock["status_details"]["advancing"]["target_frozen_time"]
        threading.Thread(target=advance_test_clock, args=(world, clock["id"], to), daemon=True).start()


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
                try:
                    self._tick()
                except Exception:
                    self._world.violations.append(f"clock: {traceback.format_exc()}")
                    return

    def _tick(self) -> None:
        steps = _Steps(self._world, None, self._world.now())
        while step := steps.next():
            step.act()
            self._world.store.dirty = True

    def stop(self) -> None:
        self._stopped.set()
