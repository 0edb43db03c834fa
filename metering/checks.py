"""Whether the usage Redis keeps what it is given: asked at `manage.py check --database default` and when a gateway starts
(ENGINE.md, section 8)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Tags, register
from redis.cluster import RedisCluster
from redis.exceptions import RedisError

from core.redis import usage_redis
from core.redis_slots import is_cluster


class StoreFault(NamedTuple):
    """A setting of the usage Redis under which counters or events can get lost."""

    id: str
    message: str
    hint: str


_EVICTS = StoreFault(
    "metering.W001",
    "The usage Redis may evict counters and events when its memory is full.",
    "Set maxmemory-policy to noeviction: a full memory is answered with 503 then, and nothing is lost (docs/deployment.md).",
)
_FORGETS = StoreFault(
    "metering.W002",
    "The usage Redis forgets what was not drained yet when it is restarted.",
    "Set appendonly to yes (docs/deployment.md).",
)


def store_faults() -> list[StoreFault]:
    """What is wrong with the settings of the usage Redis; nothing where it does not tell them or does not answer."""
    try:
        policies, append_only = _values("maxmemory-policy"), _values("appendonly")
    except RedisError:
        return []
    evicts = any(policy != "noeviction" for policy in policies)
    forgets = any(answer != "yes" for answer in append_only)
    return [fault for fault, is_so in ((_EVICTS, evicts), (_FORGETS, forgets)) if is_so]


def _values(name: str) -> list[str]:
    """Of every primary."""
    client: Any = usage_redis()
    if not is_cluster(settings.REDIS_URL):
        return _texts([client.config_get(name)])
    return _texts(list(client.config_get(name, target_nodes=RedisCluster.PRIMARIES).values()))


def _texts(answers: Sequence[Any]) -> list[str]:
    """Names and values of CONFIG GET come as bytes or as text."""
    values = [value for answer in answers for value in answer.values()]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


@register(Tags.database)
def usage_is_kept(databases: Sequence[str] | None, **_: Any) -> list[CheckMessage]:
    """Asked only where servers are to be asked."""
    if not databases:
        return []
    return [checks.Warning(fault.message, hint=fault.hint, id=fault.id) for fault in store_faults()]
