"""What a worker caches about a key: everything admission needs, read together with the organization's version.

The version is read in the first statement; the rest can only be newer. A change raises the version in its own
transaction and tells Redis, so a worker with an older record is answered STALE and reads again (ENGINE.md, section 8).
"""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings

from core.clock import to_micros
from keys.limits import CallLimits, call_limits, key_windows
from keys.models import ApiKey
from plans.door import Span
from plans.standing import ANY_NUMBER, DayTokens, Standing, find_standing, mode_terms

Window = tuple[int, int]  # seconds, calls


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as the doors know it. `spans` is the door table of its mode; windows are (seconds, calls), `concurrency` calls at once,
    `day_tokens` the tokens of a UTC day (live keys only; None: no limit)."""

    key_id: int
    key_public_id: str
    key_name: str
    mode: str
    organization_id: int
    organization_public_id: str
    organization_name: str
    shard: int
    version: int
    plan_slug: str
    plan_name: str
    features: frozenset[str]
    scopes: frozenset[str]
    windows: tuple[Window, ...]
    key_windows: tuple[Window, ...]
    spans: tuple[Span, ...]
    revoked: bool
    expires_at_us: int | None
    concurrency: int = ANY_NUMBER
    day_tokens: DayTokens | None = None
    token_windows: tuple[Window, ...] = ()  # seconds, tokens
    limits: CallLimits | None = None  # what depends on a call's route, model and size; with the tokens above

    def span_at(self, moment_us: int) -> Span | None:
        """The span that contains this moment, or None: the table has been outlived."""
        for span in self.spans:
            if span.start_us <= moment_us < span.end_us:
                return span
        return None

    def is_expired(self, moment_us: int) -> bool:
        return self.expires_at_us is not None and self.expires_at_us <= moment_us

    def may_call(self, product_slug: str, route_public_id: str) -> bool:
        """Whether the key's scopes include this route; a key without scopes may call all."""
        return (
            not self.scopes
            or f"product:{product_slug}" in self.scopes
            or f"route:{route_public_id}" in self.scopes
        )


def load_record(key_hash: bytes, *, at: datetime) -> KeyRecord | None:
    """The record of the key with this SHA-256, or None when there is no such key. A revoked key is none: who tries one
    can tell neither by the answer nor by its time that it was a key once."""
    key = ApiKey.objects.select_related("organization").filter(hash=key_hash, revoked_at=None).first()
    if key is None:
        return None
    return _record(key, find_standing(key.organization, at=at))


def _record(key: ApiKey, standing: Standing) -> KeyRecord:
    terms = mode_terms(standing, mode=key.mode, test_plan=settings.TEST_MODE_PLAN)
    organization = key.organization
    return KeyRecord(
        key_id=key.pk,
        key_public_id=key.public_id,
        key_name=key.name,
        mode=key.mode,
        organization_id=organization.pk,
        organization_public_id=organization.public_id,
        organization_name=organization.name,
        shard=organization.shard,
        version=organization.version,
        plan_slug=terms.plan_slug,
        plan_name=terms.plan_name,
        features=terms.features,
        scopes=frozenset(key.scopes),
        windows=terms.windows,
        key_windows=key_windows(terms.limits, key.calls_per_minute),
        spans=terms.spans,
        revoked=key.revoked_at is not None,
        expires_at_us=to_micros(key.expires_at) if key.expires_at else None,
        concurrency=terms.concurrency,
        day_tokens=terms.day_tokens,
        token_windows=terms.token_windows,
        limits=call_limits(
            key.pk,
            terms.limits,
            token_windows=terms.token_windows,
            token_meters=terms.token_meters,
            day_tokens=terms.day_tokens,
        ),
    )
