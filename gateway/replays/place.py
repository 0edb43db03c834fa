"""Which answer an `Idempotency-Key` names, and whether a second request is the same as the first."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from core.idempotency import BadIdempotencyKey, IdempotencyKeyReused, StillRunning
from gateway.headers import RawHeaders
from metering.answers import Refusal

HEADER = b"idempotency-key"
METHODS = frozenset({"POST", "PATCH", "PUT", "DELETE"})  # the others change nothing
LONGEST_KEY = 200
_KEY = re.compile(rb"[\x21-\x7e]{1,%d}" % LONGEST_KEY)
_AGAIN_SOON = [("Retry-After", "1")]

# Codes and titles are those of the owner's API (core/idempotency.py).
BAD_KEY = Refusal(
    BadIdempotencyKey.code, BadIdempotencyKey.status, "The Idempotency-Key cannot be used",
    f"Send one, of 1 to {LONGEST_KEY} visible ASCII characters.", counted=True,
)  # fmt: skip
REUSED = Refusal(
    IdempotencyKeyReused.code, IdempotencyKeyReused.status, "This Idempotency-Key was sent with another request",
    "Use a new key for each thing that you want done. Nothing was charged.", counted=True,
)  # fmt: skip
RUNNING = Refusal(
    StillRunning.code, StillRunning.status, "The first request with this Idempotency-Key is still being carried out",
    "Send it again after Retry-After to get its answer. Nothing was charged.", _AGAIN_SOON, counted=True,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where the answer to a key belongs: no other organization, mode or route ever reads it. API keys of one organization
    share it, so that a retry may come from another server, or after a rotation."""

    shard: int
    org_id: int
    name: str

    @classmethod
    def of(cls, shard: int, org_id: int, *, mode: str, route: str, key: bytes) -> "Place":
        parts = [str(org_id).encode(), mode.encode(), route.encode(), key]
        return cls(shard, org_id, _digest(b"farebox.place", parts).hex())


class Fingerprint:
    """What was asked, as its body comes: method, path, query, content type and every byte of the body."""

    def __init__(self, *, method: str, path: str, query: bytes, content_type: bytes) -> None:
        head = _digest(
            b"farebox.request", [method.encode(), path.encode("latin-1"), query, content_type.strip().lower()]
        )
        self._hash = hashlib.sha256(head)
        self.size = 0
        self.is_whole = False  # the body's end was seen

    def feed(self, piece: bytes, *, is_last: bool) -> None:
        self.size += len(piece)
        self._hash.update(piece)
        self.is_whole = self.is_whole or is_last

    def hex(self) -> str:
        return self._hash.hexdigest()


def sent_key(headers: RawHeaders) -> bytes | None:
    """The key's text, b"" where what was sent cannot be used, None where there is none."""
    sent = [value.strip() for name, value in headers if name == HEADER]
    if not sent:
        return None
    return sent[0] if len(sent) == 1 and _KEY.fullmatch(sent[0]) else b""


def _digest(purpose: bytes, parts: Iterable[bytes]) -> bytes:
    """A digest that no other split of the same bytes has: each part is preceded by its length."""
    found = hashlib.sha256(purpose)
    for part in parts:
        found.update(len(part).to_bytes(8))
        found.update(part)
    return found.digest()
