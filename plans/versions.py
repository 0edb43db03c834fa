"""Telling Redis that an organization changed: a version that only rises (ENGINE.md, section 8).

Every act that changes keys, plan, state or caps raises the version in its own transaction and leaves an outbox row;
the push on commit makes the change hold on the next call, the outbox makes it hold also when Redis was away.
"""

import secrets

import structlog
from django.db import transaction
from django.db.models import F
from redis.exceptions import RedisError

from accounts.models import Organization
from core.redis import usage_redis
from core.redis_layout import organization_key, shard_key
from plans.models import StatePush

log = structlog.get_logger(__name__)
MOST_PUSHES = 500

# Set if greater: a late push of an older version never takes a newer one back. A shard's epoch is made here, once.
_PUSH = """
redis.call('HSETNX', KEYS[2], 'epoch', ARGV[2])
local stored = redis.call('HGET', KEYS[1], 'v')
if not stored and ARGV[3] ~= '1' then return 'NOSTATE' end
if not stored or tonumber(stored) < tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'v', ARGV[1]) end
return 'OK'
"""


def raise_version(organization: Organization, *, is_new: bool = False) -> None:
    """Make every worker read this organization's records again; called inside the transaction of the change.

    `is_new` allows the state to be created in Redis: only for an organization that has no usage yet. A state that
    Redis lost is never pushed as "zero used"; `manage.py rebuild_counters` restores it from the ledger.
    """
    Organization.objects.filter(pk=organization.pk).update(version=F("version") + 1)
    organization.refresh_from_db(fields=["version"])
    push, _ = StatePush.objects.get_or_create(organization=organization, defaults={"version": 0})
    push.version, push.is_new = organization.version, push.is_new or is_new
    push.save(update_fields=["version", "is_new"])
    version = organization.version
    transaction.on_commit(lambda: _push_or_leave(organization, version, is_new=push.is_new))


def push_version(organization: Organization, version: int, *, is_new: bool = False) -> bool:
    """Push one version; True when Redis has it now. Raises RedisError when Redis cannot be reached."""
    answer = usage_redis().eval(
        _PUSH,
        2,
        organization_key(organization.shard, organization.pk),
        shard_key(organization.shard),
        str(version),
        secrets.token_hex(8),
        "1" if is_new else "0",
    )
    confirmed = answer in (b"OK", "OK")
    if confirmed:
        StatePush.objects.for_organization(organization).filter(version__lte=version).delete()
    return confirmed


def push_pending() -> int:
    """Push what the outbox still holds; how many rows were confirmed. Raises RedisError when Redis is away.

    In random order: organizations whose state Redis lost stay here until they are rebuilt and must not block others.
    """
    pending = StatePush.objects.select_related("organization").order_by("?")[:MOST_PUSHES]
    return sum(push_version(push.organization, push.version, is_new=push.is_new) for push in pending)


def _push_or_leave(organization: Organization, version: int, *, is_new: bool) -> None:
    try:
        push_version(organization, version, is_new=is_new)
    except RedisError as error:
        log.warning(
            "state_push_left_to_outbox",
            organization=organization.public_id,
            error=type(error).__name__,
        )
