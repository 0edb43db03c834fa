"""Marks of requests under way, in the usage Redis: of any number of equal requests exactly one is carried out.

A mark lives as long as a reservation and is renewed like one, so a worker that dies holds its key for a minute at most.
Where an answer was stored the mark says so for some seconds: who looked for the answer a moment too early looks again.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

import structlog

from core.ids import new_nonce
from core.redis_layout import mark_key
from gateway.replays.place import Place
from metering.calls import LIFE_SECONDS
from metering.engine import AsyncEngine, MeteringUnavailable
from metering.script_calls import Call
from metering.scripts import script

log = structlog.get_logger(__name__)

RENEW_SECONDS = 15.0
LIFE_MS = LIFE_SECONDS * 1000
STORED_MS = 30_000  # much longer than a look into the store may take
_NONE, _STORED = b"", b"stored"


class Claim(Enum):
    """What a request finds: it is the first, another is under way, or one has just ended with an answer."""

    FIRST = "first"
    RUNNING = "running"
    STORED = "stored"


@dataclass(frozen=True, slots=True)
class Mark:
    """A request under way: its place, and the word that only its worker knows."""

    place: Place
    word: bytes

    @classmethod
    def new(cls, place: Place) -> "Mark":
        return cls(place, f"{new_nonce():x}".encode())


class Marks:
    """The marks of one worker. One per event loop."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._held: set[Mark] = set()
        self._renewal: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._renewal = asyncio.create_task(self._renew())

    async def stop(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewal

    async def claim(self, mark: Mark) -> Claim:
        """Become the one who carries the request out, or learn who is. Raises MeteringUnavailable."""
        is_first, found = await self._change(mark.place, _NONE, mark.word, LIFE_MS)
        return self._claimed(mark, found, is_first=is_first)

    async def claim_after(self, mark: Mark) -> Claim:
        """The same where an answer had been stored and is gone. Raises MeteringUnavailable."""
        is_first, found = await self._change(mark.place, _STORED, mark.word, LIFE_MS)
        return self._claimed(mark, found, is_first=is_first)

    def holds(self, mark: Mark) -> bool:
        """Whether it is renewed still."""
        return mark in self._held

    async def end(self, mark: Mark, *, is_stored: bool) -> None:
        """Let go: others find the stored answer, or carry the request out themselves. A lost word of it expires."""
        self._held.discard(mark)
        with suppress(MeteringUnavailable):
            await self._change(mark.place, mark.word, _STORED if is_stored else _NONE, STORED_MS)

    def _claimed(self, mark: Mark, found: bytes, *, is_first: bool) -> Claim:
        if is_first:
            self._held.add(mark)
            return Claim.FIRST
        return Claim.STORED if found == _STORED else Claim.RUNNING

    async def _change(self, place: Place, expected: bytes, new: bytes, life_ms: int) -> tuple[bool, bytes]:
        key = mark_key(place.shard, place.org_id, place.name)
        call = Call(script("mark"), [key], [expected, new, str(life_ms)], lambda r: (bool(r[0]), bytes(r[1])))
        return await self._engine.run(call)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            for mark in list(self._held):
                try:
                    if mark in self._held:
                        await self._change(mark.place, mark.word, mark.word, LIFE_MS)
                except MeteringUnavailable:
                    log.warning("marks_not_renewed", count=len(self._held))
                    break
