"""Stored answers, in the cache's Redis: compressed and encrypted, for as long as the route says, in bounded memory.

It is a cache: what was evicted, or could not be stored, is as if the first request had never been. A retry then passes on
and is billed; nothing is refused because of it.
"""

import asyncio
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import orjson
import structlog
from cryptography.fernet import InvalidToken
from django.conf import settings
from redis.exceptions import RedisError

from core.crypto import decrypt_bytes, encrypt_bytes
from core.redis_loop import LoopPipeline
from gateway.replays.place import Place
from metering.engine import AsyncEngine, MeteringUnavailable
from metering.script_calls import Call
from metering.scripts import Script

log = structlog.get_logger(__name__)

PREFIX = "fbr1:"
TIMEOUT_SECONDS = 0.5  # a cache that is slower than that is away
AWAY_SECONDS = 1.0  # and is not asked again for so long
IN_THREAD_BYTES = 32 * 1024  # from here on the loop would be held up for more than half a millisecond
_KEEP = Script("keep", "#!lua\n" + (Path(__file__).parent / "keep.lua").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer as it can be given again. `event`: the ledger's id of the call that it was billed with."""

    fingerprint: str
    event: str
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Shelf:
    """The store as one worker sees it. One per event loop."""

    def __init__(self) -> None:
        self._client = LoopPipeline(settings.CACHE_URL, timeout=TIMEOUT_SECONDS)
        self._scripts = AsyncEngine(self._client)
        self._away_until = 0.0

    async def find(self, place: Place) -> Kept | None:
        """The stored answer; None also where the store cannot be asked or read."""
        if time.monotonic() < self._away_until:
            return None
        try:
            sealed = await self._client.execute("GET", f"{PREFIX}a:{place.name}")
        except RedisError as error:
            self._is_away("answer_not_looked_up", error)
            return None
        if sealed is None:
            return None
        if len(sealed) < IN_THREAD_BYTES:
            return _unseal(place, sealed)
        return await asyncio.to_thread(_unseal, place, sealed)

    async def keep(self, place: Place, kept: Kept, *, seconds: int) -> bool:
        """Store it; False where there is no room or no store."""
        if time.monotonic() < self._away_until:
            return False
        is_small = len(kept.body) < IN_THREAD_BYTES
        sealed = _seal(place, kept) if is_small else await asyncio.to_thread(_seal, place, kept)
        keys = [f"{PREFIX}a:{place.name}", f"{PREFIX}all", f"{PREFIX}o:{place.org_id}", f"{PREFIX}bytes"]
        most = (settings.REPLAY_ORGANIZATION_BYTES, settings.REPLAY_TOTAL_BYTES)
        args: list[str | bytes] = [
            PREFIX,
            str(place.org_id),
            place.name,
            sealed,
            str(seconds),
            *map(str, most),
        ]
        try:
            return await self._scripts.run(Call(_KEEP, keys, args, bool))
        except MeteringUnavailable as error:
            self._is_away("answer_not_stored", error.__cause__ or error)
            return False

    async def aclose(self) -> None:
        await self._client.aclose()

    def _is_away(self, what: str, error: BaseException) -> None:
        self._away_until = time.monotonic() + AWAY_SECONDS
        log.warning(what, error=type(error).__name__, hint="retries are passed on and billed meanwhile")


def _seal(place: Place, kept: Kept) -> bytes:
    """The place is part of it: an answer that was moved to another one is none."""
    head = {
        "p": place.name,
        "f": kept.fingerprint,
        "e": kept.event,
        "s": kept.status,
        "h": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in kept.headers],
    }
    return encrypt_bytes(zlib.compress(orjson.dumps(head) + b"\n" + kept.body, 1))


def _unseal(place: Place, sealed: bytes) -> Kept | None:
    try:
        head, _, body = zlib.decompress(decrypt_bytes(sealed)).partition(b"\n")
    except (InvalidToken, zlib.error):
        log.error("answer_not_readable", hint="ENCRYPTION_KEYS lacks the key it was written with")
        return None
    facts = orjson.loads(head)
    if facts["p"] != place.name:
        return None
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in facts["h"]]
    return Kept(facts["f"], facts["e"], facts["s"], headers, body)
