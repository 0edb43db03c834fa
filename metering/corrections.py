"""Corrections of counters: what only the ledger saw is told to Redis once, in order, by the holder of the shard's lock.

A correction is committed before it is applied; the script remembers the last one, so a repeat does nothing. Reconcile
reads that number at its cut and allows for those that are still on their way.
"""

from datetime import datetime, timedelta
from decimal import Decimal

import structlog

from core.clock import to_micros
from core.redis import usage_redis
from core.redis_layout import organization_key, shard_key, usage_key
from metering.calls import USAGE_KEPT_MS
from metering.engine import Engine
from metering.models import CounterCorrection
from metering.script_calls import Call
from metering.scripts import script
from plans.door import smallest_units
from plans.models import Meter, Period

log = structlog.get_logger(__name__)


def find_epoch(shard: int) -> str:
    """The name under which Redis numbers this shard's events now; '' when it has none. Raises RedisError."""
    epoch = usage_redis().hget(shard_key(shard), "epoch")
    return epoch.decode() if isinstance(epoch, bytes) else ""


def apply_corrections(shard: int, *, at: datetime) -> int:
    """Tell Redis the open corrections of a shard, whose lock the caller holds; how many. Raises MeteringUnavailable."""
    waiting = list(CounterCorrection.objects.filter(shard=shard, applied_at=None).order_by("pk"))
    if not waiting:
        return 0
    decimals = dict(Meter.objects.values_list("pk", "decimals"))
    ends = dict(Period.objects.filter(pk__in={c.period_id for c in waiting}).values_list("pk", "ends_at"))
    engine = Engine()
    for correction in waiting:
        if correction.quantity:
            ends_at = ends.get(correction.period_id, at)
            outcome = engine.run(_correct_call(correction, decimals.get(correction.meter_id, 0), ends_at))
            log.info("counter_corrected", correction=correction.pk, reason=correction.reason, outcome=outcome)
    return CounterCorrection.objects.filter(pk__in=[c.pk for c in waiting]).update(applied_at=at)


def shards_to_correct() -> list[int]:
    """Shards with corrections that Redis was not told yet."""
    open_ones = CounterCorrection.objects.filter(applied_at=None).order_by("shard")
    return list(open_ones.values_list("shard", flat=True).distinct())


def counter_expiry(ends_at: datetime) -> datetime:
    """Until when Redis keeps the counters of a period that ends then."""
    return ends_at + timedelta(milliseconds=USAGE_KEPT_MS)


def _correct_call(correction: CounterCorrection, decimals: int, ends_at: datetime) -> Call[str]:
    c = correction
    units = smallest_units(abs(c.quantity), decimals)
    keys = [
        shard_key(c.shard),
        organization_key(c.shard, c.organization_id),
        usage_key(c.shard, c.organization_id, c.mode, c.period_id),
    ]
    sign = "-" if c.quantity < Decimal(0) else "+"
    expiry_ms = to_micros(counter_expiry(ends_at)) // 1000
    args = [str(c.pk), c.epoch, str(c.meter_id), sign, str(units), str(expiry_ms)]
    return Call(script("correct"), keys, args, lambda reply: str(reply.decode()))
