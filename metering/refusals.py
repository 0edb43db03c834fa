"""Our own refusals, from the counters of each minute in Redis to rows. Never ledger rows, never billed.

A minute's counter only grows, and only while that minute lasts by the clock of Redis. So the drain writes what it reads,
never adds it, and deletes a minute that is over after its last reading was committed: each refusal is counted once.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from django.db import connection

from core.clock import from_micros
from core.redis import slowest_clock, usage_redis
from core.redis_layout import SHARDS, refusals_key, shard_key

MINUTE_US = 60_000_000
FIRST_LOOK_BACK = (
    24 * 60
)  # minutes; what an installation refused before its worker first ran is of no use to anyone
MOST_MINUTES = 7 * 24 * 60  # Redis keeps a minute's refusals for a week
_AT_ONCE = 2_000

_STORE = """
INSERT INTO usage_refusal AS r (organization_id, mode, api_key_id, minute, reason, count)
VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (organization_id, mode, minute, api_key_id, reason) DO UPDATE SET count = greatest(r.count, EXCLUDED.count)
"""


class Refusals(NamedTuple):
    """One counter of one minute (since 1970)."""

    organization_id: int
    mode: str
    api_key_id: int
    minute: int
    reason: str
    times: int


def drain_refusals() -> int:
    """Store the refusals of every minute since the last run; how many counters. Raises RedisError or DatabaseError."""
    client = usage_redis()
    minute = slowest_clock() // 60  # what a faster node of a Cluster counts already is read by the next run
    minutes_of = {shard: range(first, minute + 1) for shard, first in _first_minutes(minute)}
    stored = _store(_read(minutes_of))
    finished = client.pipeline(transaction=False)
    for shard, minutes in minutes_of.items():
        over = [refusals_key(shard, number) for number in minutes if number < minute]
        for start in range(0, len(over), _AT_ONCE):
            # Not delete(): of a Cluster's pipeline it takes one key.
            finished.execute_command("DEL", *over[start : start + _AT_ONCE])  # type: ignore[no-untyped-call]
        finished.hset(shard_key(shard), "refusals", minute)
    finished.execute()
    return stored


def _first_minutes(minute: int) -> Iterator[tuple[int, int]]:
    """Shards in use, with the first minute that is not stored and deleted yet."""
    pipeline = usage_redis().pipeline(transaction=False)
    for shard in range(SHARDS):
        pipeline.hmget(shard_key(shard), "epoch", "refusals")
    for shard, (epoch, stored) in enumerate(pipeline.execute()):
        if epoch is not None:
            first = int(stored) if stored else minute - FIRST_LOOK_BACK
            yield shard, min(max(first, minute - MOST_MINUTES), minute)


def _read(minutes_of: dict[int, range]) -> Iterator[Refusals]:
    wanted = [(shard, minute) for shard, minutes in minutes_of.items() for minute in minutes]
    for start in range(0, len(wanted), _AT_ONCE):
        part = wanted[start : start + _AT_ONCE]
        pipeline = usage_redis().pipeline(transaction=False)
        for shard, minute in part:
            pipeline.hgetall(refusals_key(shard, minute))
        for (_, minute), fields in zip(part, pipeline.execute(), strict=True):
            for name, count in fields.items():
                org_id, mode, key_id, reason = name.decode().split(":", 3)
                yield Refusals(int(org_id), mode, int(key_id), minute, reason[:40], int(count))


def _store(found: Iterable[Refusals]) -> int:
    rows = [
        (r.organization_id, r.mode, r.api_key_id, from_micros(r.minute * MINUTE_US), r.reason, r.times)
        for r in sorted(found)
    ]
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(_STORE, rows)
    return len(rows)
