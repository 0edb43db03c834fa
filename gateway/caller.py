"""Who calls: from the headers to a key's record, without a query for a key that was seen before.

Records live 60 s at most; that they are not outdated is the admission script's business (STALE).
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError

from core.clock import now
from gateway.headers import RawHeaders, find_header
from gateway.snapshot import in_thread
from keys.guesses import Guesses, TooManyGuesses
from keys.hashing import digest, is_well_formed
from keys.records import KeyRecord, load_record
from metering.answers import INVALID_KEY, KEY_UNKNOWN_NOW, MISSING_KEY, TOO_MANY_UNKNOWN, Refusal

CACHED_KEYS = 50_000
UNKNOWN_SECONDS = 30.0
FRESH_SECONDS = 0.5

Loader = Callable[[bytes], Awaitable[KeyRecord | None]]
RoomKey = TypeVar("RoomKey")
RoomValue = TypeVar("RoomValue")


class Refused(Exception):
    """The caller is not let in."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.code)


async def load_from_database(key_hash: bytes) -> KeyRecord | None:
    """The record as PostgreSQL has it now."""
    return await in_thread(lambda: load_record(key_hash, at=now()))


class Callers:
    """The worker's cache of records, and the one place that decides 401.

    Hashes without a record have a bounded room of their own: guessed keys never push a customer's record out.
    """

    def __init__(self, load: Loader = load_from_database) -> None:
        self._load = load
        self._records: OrderedDict[bytes, tuple[float, KeyRecord]] = OrderedDict()
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._loading: dict[bytes, asyncio.Task[KeyRecord | None]] = {}
        self._guesses = Guesses()

    async def identify(self, headers: RawHeaders, address: str) -> tuple[bytes, KeyRecord]:
        """The key's hash and record. Raises Refused."""
        return await self.identify_key(presented_key(headers), address)

    async def identify_key(self, key: str | None, address: str) -> tuple[bytes, KeyRecord]:
        """The same for a key that did not come in a header; `address` is whose guesses are counted. Raises Refused."""
        if key is None:
            raise Refused(MISSING_KEY)
        if not is_well_formed(key):
            raise Refused(INVALID_KEY)
        key_hash = digest(key)
        record = await self._find(key_hash, address)
        if record is None or record.revoked:
            raise Refused(INVALID_KEY)
        return key_hash, record

    def find_fresh(self, key_hash: bytes) -> KeyRecord | None:
        """The record where it is known, not outlived and not revoked; None says nothing of the key."""
        found = self._records.get(key_hash)
        if found is None or time.monotonic() - found[0] >= settings.RECORD_SECONDS or found[1].revoked:
            return None
        return found[1]

    async def at_most_a_second_old(self, key_hash: bytes, record: KeyRecord) -> KeyRecord:
        """The record to refuse by: a change of plan or scopes must open a route at once, and a revoked key
        must close what costs nothing; only an admitted call is told by the script that its record is old. Raises Refused."""
        read_at, _ = self._records.get(key_hash, (0.0, None))
        if time.monotonic() - read_at < FRESH_SECONDS:
            return record
        newer = await self.reload(key_hash)
        if newer is None or newer.revoked:
            raise Refused(INVALID_KEY)
        return newer

    async def reload(self, key_hash: bytes) -> KeyRecord | None:
        """Read a record again; many who ask at once share one read. Raises Refused when PostgreSQL is away."""
        task = self._loading.get(key_hash)
        if task is None:
            task = asyncio.create_task(self._read(key_hash))
            self._loading[key_hash] = task
            task.add_done_callback(lambda _: self._loading.pop(key_hash, None))
        try:
            return await asyncio.shield(task)
        except (OperationalError, InterfaceError) as error:
            raise Refused(KEY_UNKNOWN_NOW) from error

    async def _find(self, key_hash: bytes, address: str) -> KeyRecord | None:
        """From the cache, else from the database. With PostgreSQL away an outlived record goes on: whether it is
        outdated is what the script knows, by the version."""
        read_at, record = self._records.get(key_hash, (0.0, None))
        if record is not None:
            if time.monotonic() - read_at < settings.RECORD_SECONDS:
                return record
            try:
                return await self.reload(key_hash)
            except Refused:
                return record
        if time.monotonic() - self._unknown.get(key_hash, -UNKNOWN_SECONDS) < UNKNOWN_SECONDS:
            return None
        try:
            self._guesses.check(address)
        except TooManyGuesses as error:
            raise Refused(TOO_MANY_UNKNOWN) from error
        record = await self.reload(key_hash)
        if record is None:
            self._guesses.count(address)
        return record

    async def _read(self, key_hash: bytes) -> KeyRecord | None:
        record = await self._load(key_hash)
        if record is None:
            self._records.pop(key_hash, None)
            _remember(self._unknown, key_hash, time.monotonic())
        else:
            _remember(self._records, key_hash, (time.monotonic(), record))
        return record


def _remember(room: OrderedDict[RoomKey, RoomValue], name: RoomKey, value: RoomValue) -> None:
    """Put into a bounded room; what was put there longest ago leaves."""
    room[name] = value
    room.move_to_end(name)
    while len(room) > CACHED_KEYS:
        room.popitem(last=False)


def presented_key(headers: RawHeaders) -> str | None:
    """The key that a request carries: `Authorization: Bearer` first, then `X-API-Key`; None when there is none."""
    authorization = find_header(headers, b"authorization")
    if authorization is not None:
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() == b"bearer":
            return token.strip().decode("latin-1")
    key = find_header(headers, b"x-api-key")
    return key.strip().decode("latin-1") if key else None
