"""The records of a process of threads (web): seen keys cost no query for a minute. The gateway has its own, on its loop."""

import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from threading import Lock

from django.conf import settings
from django.db import InterfaceError, OperationalError

from keys.guesses import Guesses
from keys.records import KeyRecord, load_record

CACHED_KEYS = 10_000
UNKNOWN_SECONDS = 30


class RecordCache:
    """Key hash to record, bounded, at most RECORD_SECONDS old; unknown hashes are remembered for 30 s.

    Unknown hashes have a room of their own: whoever guesses keys does not push out those of customers.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.guesses = Guesses(clock)
        self._lock = Lock()
        self._known: OrderedDict[bytes, tuple[float, KeyRecord | None]] = OrderedDict()
        self._unknown: OrderedDict[bytes, tuple[float, KeyRecord | None]] = OrderedDict()

    def find(self, key_hash: bytes, *, at: datetime, address: str) -> KeyRecord | None:
        """The record, read when it is not here or too old; an outlived one goes on while PostgreSQL is away. Raises
        TooManyGuesses, and OperationalError or InterfaceError for a key not seen before."""
        with self._lock:
            read_at, record = self._known.get(key_hash) or self._unknown.get(key_hash) or (None, None)
        life = settings.RECORD_SECONDS if record is not None else UNKNOWN_SECONDS
        if read_at is not None and self._clock() - read_at < life:
            return record
        if record is None:
            self.guesses.check(address)
        try:
            found = self.reload(key_hash, at=at)
        except (OperationalError, InterfaceError):
            if record is None:
                raise
            return record  # whether it is outdated is what the admission script knows, by the version
        if found is None:
            self.guesses.count(address)
        return found

    def reload(self, key_hash: bytes, *, at: datetime) -> KeyRecord | None:
        """Read the record again. Raises DatabaseError when PostgreSQL is away."""
        record = load_record(key_hash, at=at)
        with self._lock:
            self._known.pop(key_hash, None)
            self._unknown.pop(key_hash, None)
            entries = self._unknown if record is None else self._known
            entries[key_hash] = (self._clock(), record)
            while len(entries) > CACHED_KEYS:
                entries.popitem(last=False)
        return record

    def clear(self) -> None:
        with self._lock:
            self._known.clear()
            self._unknown.clear()
        self.guesses.clear()


records = RecordCache()
