"""A request that is sent again is carried out once: the same `Idempotency-Key` gets the stored answer.

One transaction holds the lock of (caller, key), the act and its answer. So whatever dies in between leaves either both
or nothing, a lock never outlives its request, and an act that was refused leaves its key free for the next try.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from core.errors import PortalError
from core.models import KeptAnswer

KEPT = timedelta(hours=24)
_KEY = re.compile(r"[\x21-\x7e]{1,200}")


class BadIdempotencyKey(PortalError):
    code, status = "bad_idempotency_key", 400
    title = "An Idempotency-Key is 1 to 200 visible ASCII characters"


class IdempotencyKeyReused(PortalError):
    code, status = "idempotency_key_reused", 422
    title = "This Idempotency-Key was sent with another request"


class StillRunning(PortalError):
    code, status = "idempotency_in_progress", 409
    title = "The first request with this Idempotency-Key is still being carried out"
    extra_headers = (("Retry-After", "1"),)


@dataclass(frozen=True, slots=True)
class Once:
    """An answer, and whether it is that of an earlier request."""

    body: Any
    is_replay: bool


def fingerprint(method: str, path: str, body: Any) -> bytes:
    """The same for requests that mean the same: white space and the order of fields do not count."""
    text = json.dumps([method, path, body], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


def carry_out_once(
    *, caller: str, key: str, request: bytes, act: Callable[[], Any], at: datetime
) -> Once:  # fmt: skip
    """Run `act` in a transaction and keep its answer (JSON) for a day, or give the one that is kept.

    `request` is the fingerprint. Raises BadIdempotencyKey, StillRunning, IdempotencyKeyReused, and what `act` raises.
    """
    if not _KEY.fullmatch(key):
        raise BadIdempotencyKey
    with transaction.atomic():
        if not _take_lock(caller, key):
            raise StillRunning
        kept = KeptAnswer.objects.filter(caller=caller, key=key).first()
        if kept is not None and kept.kept_until > at:
            if bytes(kept.fingerprint) != request:
                raise IdempotencyKeyReused
            return Once(json.loads(kept.body), is_replay=True)
        body = act()
        KeptAnswer.objects.update_or_create(
            caller=caller,
            key=key,
            defaults={"fingerprint": request, "body": json.dumps(body), "at": at, "kept_until": at + KEPT},
        )
        return Once(body, is_replay=False)


def forget_answers(*, at: datetime) -> int:
    """Delete answers that are no longer kept; how many."""
    deleted, _ = KeptAnswer.objects.filter(kept_until__lte=at).delete()
    return deleted


def _take_lock(caller: str, key: str) -> bool:
    """For the rest of the transaction; False when another request holds it."""
    name = hashlib.sha256(f"{caller}\n{key}".encode()).digest()[:8]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [int.from_bytes(name, signed=True)])
        return bool(cursor.fetchone()[0])
