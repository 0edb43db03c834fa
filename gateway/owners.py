"""The owner's own services at the gateway: their keys and the meters that they ask about, followed within a second."""

from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Any

from django.conf import settings

from gateway.headers import RawHeaders, find_header
from gateway.snapshot import Followed
from keys.hashing import digest
from keys.models import OwnerKey, OwnerScope
from metering.answers import METERING_UNAVAILABLE, Refusal
from plans.models import Meter

MISSING_OWNER_KEY = Refusal(
    "missing_key", 401, "No owner key", "Send an owner key as `Authorization: Bearer KEY`.",
    [("WWW-Authenticate", 'Bearer realm="farebox"')],
)  # fmt: skip
INVALID_OWNER_KEY = Refusal(
    "invalid_key", 401, "This owner key is not valid", "It is unknown, mistyped or revoked.",
    [("WWW-Authenticate", 'Bearer realm="farebox"')],
)  # fmt: skip
OWNER_SCOPE_MISSING = Refusal(
    "owner_scope_missing", 403, "This owner key does not open that",
    "Make one with the scope `usage` by `manage.py issue_owner_key --scope`.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class OwnersShelf:
    """Owner keys by their SHA-256, each with whether its scopes let it report usage, and the meters that calls can count on."""

    owner_keys: dict[bytes, bool] = field(default_factory=dict)
    meters: dict[str, Meter] = field(default_factory=dict, compare=False)  # rows compare by their ids alone
    meters_by_id: dict[int, Meter] = field(default_factory=dict, compare=False)
    columns: list[dict[str, Any]] = field(default_factory=list)  # of the meters: what they are compared by


def load_shelf() -> OwnersShelf:
    """Two queries."""
    keys = OwnerKey.objects.filter(revoked_at=None).values_list("hash", "scopes")
    meters = [meter for meter in Meter.objects.filter(archived_at=None) if meter.is_additive]
    return OwnersShelf(
        {bytes(one): OwnerScope.USAGE in scopes for one, scopes in keys},
        {m.slug: m for m in meters},
        {m.pk: m for m in meters},
        [{name: value for name, value in vars(m).items() if name != "_state"} for m in meters],
    )


def owner_fault(headers: RawHeaders, shelf: Followed[OwnersShelf]) -> Refusal | None:
    """Why these headers carry no owner key that may ask and charge (ADMIN_API_KEY, or one of `manage.py issue_owner_key` with
    the scope `usage`); None: they do."""
    key = _presented(headers)
    if not key:
        return MISSING_OWNER_KEY
    if settings.ADMIN_API_KEY and compare_digest(key, settings.ADMIN_API_KEY.encode()):
        return None
    may_ask = shelf.value.owner_keys.get(digest(key.decode("latin-1")))
    if may_ask is not None:
        return None if may_ask else OWNER_SCOPE_MISSING
    return INVALID_OWNER_KEY if shelf.is_loaded else METERING_UNAVAILABLE


def _presented(headers: RawHeaders) -> bytes:
    scheme, _, token = (find_header(headers, b"authorization") or b"").partition(b" ")
    if scheme.lower() == b"bearer":
        return token.strip()
    return (find_header(headers, b"x-admin-key") or b"").strip()
