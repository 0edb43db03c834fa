"""Cuts: counters of organizations and the number of the last event, read at one moment by one script."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby

from accounts.models import Organization
from core.redis import usage_redis
from core.redis_layout import organization_key, stream_key, usage_key
from keys.models import Mode
from metering.drain import drain_shard
from metering.engine import Engine
from plans.models import Meter, Period

# Redis keeps counters 100 days past the span that made them, which may end a month before its period does.
COUNTERS_KEPT = timedelta(days=60)
ORGANIZATIONS_AT_ONCE = 100  # a script's stall for others stays below some milliseconds
PERIOD_AHEAD = timedelta(days=1)


class DrainStuck(Exception):
    """The drain did not pass the cut in time: is another session holding a shard's lock?"""


@dataclass(frozen=True, slots=True)
class OrganizationCut:
    """What Redis knew of an organization at its cut. `counters`: (mode, period id, meter id) -> (settled, reserved), in
    the meter's unit; `corrected` is the last correction that its shard had been told."""

    organization: Organization
    has_state: bool
    epoch: str
    seq: int
    corrected: int
    period_ids: frozenset[int]
    counters: dict[tuple[str, int, int], tuple[Decimal, Decimal]]


def take_cuts(organizations: Sequence[Organization], *, at: datetime) -> Iterator[OrganizationCut]:
    """The cut of each of these organizations. Raises MeteringUnavailable or RedisError."""
    periods = counted_periods(organizations, at=at)
    decimals = dict(Meter.objects.values_list("pk", "decimals"))
    for shard, group in groupby(sorted(organizations, key=_shard_and_id), key=lambda one: one.shard):
        of_shard = list(group)
        for first in range(0, len(of_shard), ORGANIZATIONS_AT_ONCE):
            part = of_shard[first : first + ORGANIZATIONS_AT_ONCE]
            yield from _cut_part(shard, part, periods, decimals)


def counted_periods(organizations: Sequence[Organization], *, at: datetime) -> dict[int, list[Period]]:
    """Per organization id the periods whose counters Redis holds, oldest first."""
    periods = Period.objects.filter(
        organization__in=organizations, starts_at__lte=at + PERIOD_AHEAD, ends_at__gt=at - COUNTERS_KEPT
    ).order_by("organization_id", "starts_at")
    return {
        org_id: list(group) for org_id, group in groupby(periods, key=lambda period: period.organization_id)
    }


def pass_present(shard: int, *, at: datetime, timeout_seconds: float = 30.0) -> None:
    """Return when all that stands in a shard's stream now is committed; drains itself. Raises DrainStuck."""
    client = usage_redis()
    newest = client.xrevrange(stream_key(shard), count=1)
    deadline = time.monotonic() + timeout_seconds
    while newest and client.xrange(stream_key(shard), max=newest[0][0], count=1):  # type: ignore[arg-type]
        if drain_shard(shard, at=at) is None:
            time.sleep(0.02)  # another drainer is at it
        if time.monotonic() > deadline:
            raise DrainStuck(f"Shard {shard} was not drained in {timeout_seconds:.0f} s.")


def _shard_and_id(organization: Organization) -> tuple[int, int]:
    return organization.shard, organization.pk


def _cut_part(
    shard: int, part: Sequence[Organization], periods: dict[int, list[Period]], decimals: dict[int, int]
) -> Iterator[OrganizationCut]:
    places = {
        usage_key(shard, organization.pk, mode, period.pk): (organization.pk, mode, period.pk)
        for organization in part
        for period in periods.get(organization.pk, [])
        for mode in Mode.values
    }
    cut = Engine().cut(shard, list(places))
    states = _have_state(shard, part)
    for organization in part:
        counters = {
            (mode, period_id, meter): (
                _in_units(settled, decimals, meter),
                _in_units(reserved, decimals, meter),
            )
            for key, (owner, mode, period_id) in places.items()
            if owner == organization.pk
            for meter, (settled, reserved) in cut.counters[key].items()
        }
        period_ids = frozenset(period.pk for period in periods.get(organization.pk, []))
        yield OrganizationCut(
            organization, organization.pk in states, cut.epoch, cut.seq, cut.corrected, period_ids, counters
        )


def _have_state(shard: int, part: Sequence[Organization]) -> set[int]:
    pipeline = usage_redis().pipeline(transaction=False)
    for organization in part:
        pipeline.hexists(organization_key(shard, organization.pk), "v")
    return {organization.pk for organization, has in zip(part, pipeline.execute(), strict=True) if has}


def _in_units(smallest: int, decimals: dict[int, int], meter: int) -> Decimal:
    return Decimal(smallest).scaleb(-decimals.get(meter, 0))
