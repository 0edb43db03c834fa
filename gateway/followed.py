"""Facts of the database that a worker follows within a second, so that no call has to ask for them."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Generic, TypeVar

import structlog
from django.conf import settings

from gateway.headers import RawHeaders, find_header
from gateway.snapshot import REFRESH_SECONDS, in_thread
from keys.hashing import digest
from keys.models import OwnerKey
from metering.answers import METERING_UNAVAILABLE, Refusal
from plans.models import Meter

T = TypeVar("T")
log = structlog.get_logger(__name__)

MISSING_OWNER_KEY = Refusal(
    "missing_key", 401, "No owner key", "Send an owner key as `Authorization: Bearer KEY`.",
    [("WWW-Authenticate", 'Bearer realm="farebox"')],
)  # fmt: skip
INVALID_OWNER_KEY = Refusal(
    "invalid_key", 401, "This owner key is not valid", "It is unknown, mistyped or revoked.",
    [("WWW-Authenticate", 'Bearer realm="farebox"')],
)  # fmt: skip


class Followed(Generic[T]):
    """A value that is read again every second; with PostgreSQL away the last one stays."""

    def __init__(self, load: Callable[[], T], empty: T) -> None:
        self._load = load
        self.value = empty
        self.is_loaded = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read once (if PostgreSQL answers) and go on in the background."""
        await self._refresh()
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self._refresh()

    async def _refresh(self) -> None:
        try:
            self.value, self.is_loaded = await in_thread(self._load), True
        except Exception as error:  # whatever it is, the last value goes on and the next second tries again
            log.warning("not_refreshed", error=type(error).__name__, detail=str(error)[:200])


@dataclass(frozen=True, slots=True)
class OwnersShelf:
    """Owner keys that open, by their SHA-256, and the meters that calls can count on."""

    owner_keys: frozenset[bytes] = frozenset()
    meters: dict[str, Meter] = field(default_factory=dict)
    meters_by_id: dict[int, Meter] = field(default_factory=dict)


def load_shelf() -> OwnersShelf:
    """Two queries."""
    hashes = OwnerKey.objects.filter(revoked_at=None).values_list("hash", flat=True)
    meters = [meter for meter in Meter.objects.filter(archived_at=None) if meter.is_additive]
    return OwnersShelf(
        frozenset(bytes(one) for one in hashes), {m.slug: m for m in meters}, {m.pk: m for m in meters}
    )


def owner_fault(headers: RawHeaders, shelf: Followed[OwnersShelf]) -> Refusal | None:
    """Why these headers carry no valid owner key (ADMIN_API_KEY, or one of `manage.py issue_owner_key`); None: they do."""
    key = _presented(headers)
    if not key:
        return MISSING_OWNER_KEY
    if settings.ADMIN_API_KEY and compare_digest(key, settings.ADMIN_API_KEY.encode()):
        return None
    if digest(key.decode("latin-1")) in shelf.value.owner_keys:
        return None
    return INVALID_OWNER_KEY if shelf.is_loaded else METERING_UNAVAILABLE


def _presented(headers: RawHeaders) -> bytes:
    scheme, _, token = (find_header(headers, b"authorization") or b"").partition(b" ")
    if scheme.lower() == b"bearer":
        return token.strip()
    return (find_header(headers, b"x-admin-key") or b"").strip()
