"""Acts on keys. The clear text exists only in the answer of `issue_key`, `rotate_key` and `issue_owner_key`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import transaction

from accounts.models import AuditEvent, Organization, User
from accounts.permissions import check_can_make_keys
from accounts.queries import has_confirmed_address
from core.errors import PortalError
from keys.hashing import PREFIX_SHOWN, digest, make_key
from keys.models import ApiKey, Mode, OwnerKey, OwnerScope, usual_owner_scopes
from plans.models import Product, Route
from plans.versions import raise_version

MAX_KEYS = 100
MAX_GRACE = timedelta(days=30)


class KeyLimitReached(PortalError):
    code, status = "key_limit_reached", 409
    title = f"An organization can have {MAX_KEYS} usable keys. Revoke one first"


class AddressNotConfirmed(PortalError):
    code, status = "address_not_confirmed", 403
    title = "Confirm your address first: the live key waits for it"


class KeyNotUsable(PortalError):
    code, status, title = "key_not_usable", 409, "This key has already ended"


class UnknownScope(PortalError):
    code, status, title = "unknown_scope", 400, "There is no such product or route"


class ExpiryInPast(PortalError):
    code, status, title = "expiry_in_past", 400, "The expiry has to lie in the future"


class GraceTooLong(PortalError):
    code, status, title = "grace_too_long", 400, "The old key can live 30 days at most"


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key and, this once, its clear text (which no log or repr shows)."""

    key: ApiKey
    clear: str = field(repr=False)


@transaction.atomic
def issue_key(
    *,
    organization: Organization,
    name: str,
    mode: str,
    by: User | None,
    at: datetime,
    scopes: Sequence[str] = (),
    expires_at: datetime | None = None,
    calls_per_minute: int | None = None,
) -> IssuedKey:
    """Make a key. Raises Forbidden, AddressNotConfirmed for a live key, KeyLimitReached, UnknownScope or ExpiryInPast."""
    check_can_make_keys(by, organization)
    if mode == Mode.LIVE and by is not None and not by.is_staff and not has_confirmed_address(by):
        raise AddressNotConfirmed
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    if ApiKey.objects.for_organization(organization).usable(at).count() >= MAX_KEYS:
        raise KeyLimitReached
    if expires_at is not None and expires_at <= at:
        raise ExpiryInPast(field="expires_at")
    _check_scopes(scopes)
    issued = _create(
        organization,
        name.strip(),
        mode,
        by,
        at,
        scopes=list(scopes),
        expires_at=expires_at,
        calls_per_minute=calls_per_minute,
    )
    raise_version(organization)
    _audit(organization, by, "key.issued", issued.key, at)
    return issued


@transaction.atomic
def rotate_key(*, key: ApiKey, grace: timedelta, by: User | None, at: datetime) -> IssuedKey:
    """Replace a key by a new one of the same name and rights; the old one ends after the grace. Raises Forbidden, KeyNotUsable, GraceTooLong."""
    check_can_make_keys(by, key.organization)
    key = ApiKey.objects.for_organization(key.organization).select_for_update().get(pk=key.pk)
    if key.state(at) != "active":
        raise KeyNotUsable
    if grace > MAX_GRACE or grace < timedelta(0):
        raise GraceTooLong(field="grace")
    issued = _create(
        key.organization,
        key.name,
        key.mode,
        by,
        at,
        scopes=key.scopes,
        expires_at=key.expires_at,
        calls_per_minute=key.calls_per_minute,
    )
    end = at + grace
    key.rotated_to, key.expires_at = (
        issued.key,
        min(end, key.expires_at) if key.expires_at else end,
    )
    key.save(update_fields=["rotated_to", "expires_at"])
    raise_version(key.organization)
    _audit(key.organization, by, "key.rotated", key, at)
    return issued


@transaction.atomic
def revoke_key(*, key: ApiKey, by: User | None, at: datetime) -> ApiKey:
    """End a key at once: refused on its next call. Revoking twice changes nothing. Raises Forbidden."""
    check_can_make_keys(by, key.organization)
    key = ApiKey.objects.for_organization(key.organization).select_for_update().get(pk=key.pk)
    if key.revoked_at is not None:
        return key
    key.revoked_at = at
    key.save(update_fields=["revoked_at"])
    raise_version(key.organization)
    _audit(key.organization, by, "key.revoked", key, at)
    return key


@transaction.atomic
def issue_owner_key(
    *, name: str, at: datetime, clear: str = "", scopes: Sequence[str] | None = None
) -> tuple[OwnerKey, str]:
    """A key for the owner's own services; `clear` takes over a given secret (ADMIN_API_KEY). Without scopes it has the
    usual ones (usage and revenue, not customers). Returns row and clear text."""
    clear = clear or make_key("owner")
    chosen = sorted(usual_owner_scopes() if scopes is None else {OwnerScope(one).value for one in scopes})
    key, _ = OwnerKey.objects.get_or_create(
        hash=digest(clear),
        defaults={"name": name, "last4": clear[-4:], "created_at": at, "scopes": chosen},
    )
    return key, clear


def revoke_owner_key(*, key: OwnerKey, at: datetime) -> None:
    """End an owner key at once. Revoking twice changes nothing."""
    OwnerKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=at)


def find_owner_key(clear: str) -> OwnerKey | None:
    """The usable owner key with this clear text, or None."""
    return OwnerKey.objects.filter(hash=digest(clear), revoked_at=None).first()


def _create(
    organization: Organization,
    name: str,
    mode: str,
    by: User | None,
    at: datetime,
    **rights: object,
) -> IssuedKey:
    clear = make_key(Mode(mode).value)
    key = ApiKey.objects.create(
        organization=organization,
        name=name,
        mode=mode,
        hash=digest(clear),
        prefix=clear[:PREFIX_SHOWN],
        last4=clear[-4:],
        created_by=by,
        created_at=at,
        **rights,
    )
    return IssuedKey(key, clear)


def _check_scopes(scopes: Sequence[str]) -> None:
    products = {
        f"product:{slug}" for slug in Product.objects.filter(archived_at=None).values_list("slug", flat=True)
    }
    routes = {
        f"route:{pid}" for pid in Route.objects.filter(archived_at=None).values_list("public_id", flat=True)
    }
    unknown = set(scopes) - products - routes
    if unknown:
        raise UnknownScope(f"There is no {sorted(unknown)[0]}.", field="scopes")


def _audit(organization: Organization, by: User | None, action: str, key: ApiKey, at: datetime) -> None:
    AuditEvent.objects.create(
        organization=organization,
        by=by,
        action=action,
        target=key.public_id,
        at=at,
        details={"name": key.name, "last4": key.last4},
    )
