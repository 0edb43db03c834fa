"""What a key has left, read without counting a call."""

import struct
from dataclasses import dataclass
from typing import cast

from core.redis import usage_redis
from core.redis_layout import key_rate_key, rate_key, usage_key
from keys.records import KeyRecord
from metering.limits import bucket_of
from metering.scripts import BUCKETS
from plans.door import NO_QUOTA, Span

_HEAD = struct.Struct(">dII")


@dataclass(frozen=True, slots=True)
class WindowStanding:
    """One rate limit: `remaining` calls of `limit` in any `seconds`."""

    seconds: int
    limit: int
    remaining: int
    of_key: bool


@dataclass(frozen=True, slots=True)
class MeterStanding:
    """One meter in this period, whole smallest units; `quota` None: no hard limit."""

    meter_id: int
    used: int
    quota: int | None


def window_standings(record: KeyRecord, *, at_us: int) -> list[WindowStanding]:
    """Every rate limit of organization and key. Raises RedisError."""
    named = [
        (rate_key(record.shard, record.organization_id, record.mode, s), s, n, False)
        for s, n in record.windows
    ]
    named += [(key_rate_key(record.shard, record.key_id, s), s, n, True) for s, n in record.key_windows]
    packed = cast(list[bytes | None], usage_redis().mget([key for key, *_ in named]) if named else [])
    return [
        WindowStanding(seconds, limit, max(limit - window_sum(raw, seconds, at_us), 0), of_key)
        for (_, seconds, limit, of_key), raw in zip(named, packed, strict=True)
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
