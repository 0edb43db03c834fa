"""Guessed keys: each costs a query, so an address has so many look-ups of unknown keys a minute and process."""

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

MISSES_A_MINUTE = 120
ADDRESSES = 50_000


class TooManyGuesses(Exception):
    """This address has asked for too many keys that do not exist."""


class Guesses:
    """Counts misses by address, bounded: the address that missed longest ago is forgotten first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._misses: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def check(self, address: str) -> None:
        """Before a look-up. Raises TooManyGuesses."""
        minute, count = self._misses.get(address, (0, 0))
        if minute == self._minute() and count >= MISSES_A_MINUTE:
            raise TooManyGuesses

    def count(self, address: str) -> None:
        """After a look-up that found nothing."""
        with self._lock:
            minute, count = self._misses.pop(address, (0, 0))
            now = self._minute()
            self._misses[address] = (now, count + 1 if minute == now else 1)
            while len(self._misses) > ADDRESSES:
                self._misses.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._misses.clear()

    def _minute(self) -> int:
        return int(self._clock() // 60) + 1
