"""The drain: from the stream of a shard into the ledger, exactly once (ENGINE.md, section 5).

One drainer a shard, under a lock that ends with its transaction. It reads from the head, stores in one transaction, and
deletes exactly what it committed. Killed before the commit, nothing happened; killed after it, the next one reads the
same entries, finds their rows, and deletes them.
"""

import random
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import cast

import structlog
from django.conf import settings
from django.db import transaction
from redis import Redis
from redis.exceptions import RedisError

from core.redis import usage_redis
from core.redis_layout import DRAIN_TURN, SHARDS, stream_key
from core.redis_slots import is_cluster
from metering.corrections import apply_corrections, shards_to_correct
from metering.engine import MeteringUnavailable
from metering.entries import Entry, read_entry
from metering.ledger import Stored, lock_shard, store_entries

log = structlog.get_logger(__name__)

BATCH = 5_000
ALARMING_LAG = timedelta(
    days=1
)  # claims of ingested ids live 7 days in Redis; the drain must never be near that


def drain_all(*, at: datetime, budget_seconds: float = 1.0) -> Stored:
    """Drain every shard that has entries, until all are empty or the budget is spent.

    Raises RedisError or DatabaseError when a server is away; nothing is lost then, the next run does it. The shards of a
    Cluster's other nodes are drained before that.
    """
    deadline = time.monotonic() + budget_seconds
    total = Stored()
    away: RedisError | MeteringUnavailable | None = None
    for shard in shards_to_correct():
        try:
            correct_shard(shard, at=at)
        except MeteringUnavailable as error:
            away = error
    for shard in _in_turn(_shards_with_entries()):
        if time.monotonic() >= deadline:
            break
        _remember_turn(shard)
        try:
            total += _drain_until(deadline, shard, at)
        except (RedisError, MeteringUnavailable) as error:
            away = error
    if total.entries:
        log.debug("drained", stored=total.stored, repeated=total.repeated, dead=total.dead)
    if away is not None:
        raise away
    return total


def _drain_until(deadline: float, shard: int, at: datetime) -> Stored:
    """One shard until it is empty, another drainer is at it, or time is up."""
    total = Stored()
    while time.monotonic() < deadline:
        drained = drain_shard(shard, at=at)
        total += drained or Stored()
        if drained is None or drained.entries < BATCH:
            break
    return total


def drain_shard(shard: int, *, at: datetime, batch: int = BATCH) -> Stored | None:
    """Move one batch of a shard into the ledger; None when another drainer is at it."""
    client = usage_redis()
    with transaction.atomic(durable=True):  # what is deleted from the stream below has to be committed
        if not lock_shard(shard):
            return None
        entries = _read_head(client, shard, batch)
        _alarm_when_late(shard, entries, at)
        stored = store_entries(shard, entries) if entries else Stored()
    _delete(client, shard, entries)
    if stored.repeated:
        correct_shard(shard, at=at)
    return stored


def correct_shard(shard: int, *, at: datetime) -> int:
    """Tell Redis what only the ledger saw; how many corrections. 0 also when another is at this shard."""
    with transaction.atomic():
        return apply_corrections(shard, at=at) if lock_shard(shard) else 0


def _shards_with_entries() -> list[int]:
    pipeline = usage_redis().pipeline(transaction=False)
    for shard in range(SHARDS):
        pipeline.xlen(stream_key(shard))
    try:
        lengths = pipeline.execute()
    except RedisError:
        if not is_cluster(settings.REDIS_URL):
            raise
        return list(range(SHARDS))  # one node is away: whoever can be asked is asked
    return [shard for shard, length in enumerate(lengths) if length]


def _in_turn(shards: Sequence[int]) -> list[int]:
    """These shards from the one after the last run's last: a shard that fills faster than it drains starves no other."""
    try:
        last = int(cast("bytes | None", usage_redis().get(DRAIN_TURN)) or -1)
    except RedisError:
        last = random.randrange(SHARDS)  # noqa: S311 - any place does; the node that knows it is away
    return sorted(shards, key=lambda shard: (shard <= last, shard))


def _remember_turn(shard: int) -> None:
    with suppress(RedisError):  # without it the next run begins elsewhere, no more
        usage_redis().set(DRAIN_TURN, shard)


def _read_head(client: Redis, shard: int, batch: int) -> list[Entry]:
    found = cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(stream_key(shard), count=batch))
    return [read_entry(name.decode(), fields.get(b"e", b""), fields.get(b"q", b"")) for name, fields in found]


def _delete(client: Redis, shard: int, entries: Sequence[Entry]) -> None:
    if entries:
        client.xdel(stream_key(shard), *[entry.stream_id for entry in entries])


def _alarm_when_late(shard: int, entries: Sequence[Entry], at: datetime) -> None:
    if not entries:
        return
    oldest = entries[0].appended_at
    if at - oldest > ALARMING_LAG:
        log.error("drain_is_late", shard=shard, oldest=oldest.isoformat())
