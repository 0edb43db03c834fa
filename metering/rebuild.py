"""Counters from the ledger, after Redis lost them (ENGINE.md, section 8). Works under traffic.

While its state is missing an organization is refused with 503, so nothing is admitted on counters that are not there.
Per organization: forget what is left of it in Redis (from then on nothing can move its counters), let the drain store
what still stands in the stream, then under the shard's lock read the totals and write them with the state last.
"""

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from django.db import transaction
from django.db.models import Max, Sum

from accounts.models import Organization
from core.clock import to_micros
from core.redis import usage_redis
from core.redis_layout import organization_key, reservations_key, usage_key
from keys.models import Mode
from metering.calls import USAGE_KEPT_MS
from metering.corrections import apply_corrections
from metering.cuts import counted_periods, pass_present
from metering.engine import Engine, RestoreOutcome
from metering.ledger import lock_shard
from metering.models import PeriodTotal
from plans.door import smallest_units
from plans.models import CAPPABLE, Aggregation, Meter, Period

log = structlog.get_logger(__name__)


def rebuild_counters(
    *,
    at: datetime,
    organization: Organization | None = None,
    reset: bool = False,
    timeout_seconds: float = 30.0,
) -> list[Organization]:
    """Restore every organization (or one) whose state Redis lost; which. Those that have theirs are left alone, unless
    `reset` throws it away first: a repair of wrong counters, during which the organization gets 503.

    Raises DrainStuck, MeteringUnavailable or RedisError; whatever was not finished is done by the next run.
    """
    candidates = [organization] if organization else list(Organization.objects.order_by("shard", "pk"))
    lost = candidates if reset else _without_state(candidates)
    periods = counted_periods(lost, at=at)
    lost = [one for one in lost if one.pk in periods]
    for one in lost:
        _forget(one, periods[one.pk])
    for shard in sorted({one.shard for one in lost}):
        pass_present(shard, at=at, timeout_seconds=timeout_seconds)
    return [one for one in lost if _restore(one, periods[one.pk], at)]


def _without_state(organizations: Sequence[Organization]) -> list[Organization]:
    pipeline = usage_redis().pipeline(transaction=False)
    for organization in organizations:
        pipeline.hexists(organization_key(organization.shard, organization.pk), "v")
    return [one for one, has in zip(organizations, pipeline.execute(), strict=True) if not has]


def _forget(organization: Organization, periods: Sequence[Period]) -> None:
    """In one step: afterwards admission and settling answer NOSTATE, also for calls that were under way."""
    shard, org_id = organization.shard, organization.pk
    usage_keys = [usage_key(shard, org_id, mode, period.pk) for period in periods for mode in Mode.values]
    usage_redis().delete(organization_key(shard, org_id), reservations_key(shard, org_id), *usage_keys)


@transaction.atomic
def _restore(organization: Organization, periods: Sequence[Period], at: datetime) -> bool:
    lock_shard(organization.shard, wait=True)
    apply_corrections(
        organization.shard, at=at
    )  # its own have no effect while its state is missing: totals know them
    version = Organization.objects.values_list("version", flat=True).get(pk=organization.pk)
    expires = max(period.ends_at for period in periods) + timedelta(milliseconds=USAGE_KEPT_MS)
    outcome = Engine().restore(
        organization.shard,
        organization.pk,
        version,
        secrets.token_hex(8),
        _counters(organization, periods),
        expires_ms=to_micros(expires) // 1000,
    )
    log.info("counters_rebuilt", organization=organization.public_id, outcome=outcome.value)
    return outcome is RestoreOutcome.RESTORED


def _counters(organization: Organization, periods: Sequence[Period]) -> Mapping[str, Mapping[int, int]]:
    decimals = dict(Meter.objects.values_list("pk", "decimals"))
    totals = PeriodTotal.objects.for_organization(organization).filter(period_id__in=[p.pk for p in periods])
    counters: dict[str, dict[int, int]] = {}
    kinds = dict(Meter.objects.filter(aggregation__in=CAPPABLE).values_list("pk", "aggregation"))
    by_meter = totals.values_list("mode", "period_id", "meter_id").annotate(total=Sum("sum"), most=Max("max"))
    for mode, period_id, meter_id, total, most in by_meter:
        if meter_id not in kinds:
            continue
        quantity = most if kinds[meter_id] == Aggregation.MAX else total
        key = usage_key(organization.shard, organization.pk, mode, period_id)
        units = smallest_units(max(quantity, Decimal(0)), decimals.get(meter_id, 0))
        counters.setdefault(key, {})[meter_id] = units
    return counters
