"""What a key has left, read without counting a call."""

import struct
from dataclasses import dataclass, replace
from typing import cast

from core.redis import usage_redis
from core.redis_layout import key_rate_key, rate_key, usage_key, weighted_key
from keys.records import KeyRecord
from metering.answers import scope_and_measure
from metering.limits import bucket_of
from metering.scripts import BUCKETS
from plans.door import NO_QUOTA, Span

_HEAD = struct.Struct(">dII")


@dataclass(frozen=True, slots=True)
class WindowStanding:
    """One rate limit: `remaining` of `limit` in any `seconds`; whose it is, what it counts (units of a meter by its slug, in
    smallest units), and the route or model that it is about."""

    seconds: int
    limit: int
    remaining: int
    of: str = "organization"
    counts: str = "calls"
    on: str = ""


@dataclass(frozen=True, slots=True)
class MeterStanding:
    """One meter in this period, whole smallest units; `quota` None: no hard limit."""

    meter_id: int
    used: int
    quota: int | None


def window_standings(record: KeyRecord, *, at_us: int) -> list[WindowStanding]:
    """Every rate limit of organization and key. Raises RedisError."""
    shard, org_id, mode = record.shard, record.organization_id, record.mode
    named = [(rate_key(shard, org_id, mode, s), WindowStanding(s, n, n)) for s, n in record.windows]
    named += [
        (key_rate_key(shard, record.key_id, s), WindowStanding(s, n, n, of="key"))
        for s, n in record.key_windows
    ]
    for w in record.limits.all_windows() if record.limits is not None else ():
        of, counts = scope_and_measure(w.name)
        row = WindowStanding(w.seconds, w.limit, w.limit, of, counts, w.place)
        named.append((weighted_key(shard, org_id, mode, w.name, w.seconds), row))
    packed = cast(list[bytes | None], usage_redis().mget([key for key, _ in named]) if named else [])
    return [
        replace(row, remaining=max(row.limit - window_sum(raw, row.seconds, at_us), 0))
        for (_, row), raw in zip(named, packed, strict=True)
    ]


def window_sum(packed: bytes | None, seconds: int, at_us: int) -> int:
    """Calls in a packed window (metering/scripts/windows.lua) that still count at this moment."""
    if not packed:
        return 0
    last, total, _ = _HEAD.unpack_from(packed)
    gone = max(bucket_of(at_us, seconds) - int(last), 0)
    if gone > BUCKETS:
        return 0
    older = struct.unpack_from(f">{BUCKETS}I", packed, _HEAD.size)
    left: int = total - sum(older[BUCKETS - gone :])
    return left


def meter_standings(record: KeyRecord, span: Span, meter_ids: list[int]) -> list[MeterStanding]:
    """Settled and reserved quantity of these meters in the span's period. Raises RedisError."""
    if not meter_ids:
        return []
    key = usage_key(record.shard, record.organization_id, record.mode, span.period_id)
    values = usage_redis().hmget(key, [name for pk in meter_ids for name in (str(pk), f"r{pk}")])
    counts = [int(value or 0) for value in values]
    return [
        MeterStanding(
            pk, counts[2 * n] + counts[2 * n + 1], None if span.quota(pk) == NO_QUOTA else span.quota(pk)
        )
        for n, pk in enumerate(meter_ids)
    ]
