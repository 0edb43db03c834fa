"""The quantities of periods, as rating takes them: per meter slug and dimension text, by each meter's aggregation.

Read from the totals, or, for a statement that has to be the same for ever, from the events that stood at its cut.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from django.db import connection

from accounts.models import Organization
from metering import aggregation_sql as sql
from metering.aggregation import over_time, unit_micros
from metering.models import PeriodTotal
from plans.models import ADDITIVE, Aggregation, Meter, Period

Quantities = dict[tuple[str, str], Decimal]
ZERO = Decimal(0)
_MEASURES = (Aggregation.MAX, Aggregation.LAST, Aggregation.UNIQUE)  # as MEASURES_AT_CUT has them


def period_quantities(
    organization: Organization, *, period: Period, mode: str, at: datetime | None = None
) -> Quantities:
    """Settled quantities in this period. `at` ends time-weighted sums of a running one; without it they run to its end."""
    totals = PeriodTotal.objects.for_organization(organization).filter(period_id=period.pk, mode=mode)
    return _measured([period.pk], totals, mode, at).get(period.pk, {})


def quantities_by_period(
    period_ids: Sequence[int], *, mode: str = "live", at: datetime | None = None
) -> dict[int, Quantities]:
    """Quantities per period id, for lists of customers and batches of statements. `at` as in period_quantities."""
    totals = _rows(sql.TOTALS, {"periods": list(period_ids), "mode": mode})
    return _measured(period_ids, map(_Total._make, totals), mode, at)


def period_quantities_at(period: Period, *, cut_at: datetime | None, mode: str = "live") -> Quantities:
    """The quantities of a period as they stood at this cut, counted from its events; without a cut, from all of them."""
    meters = list(Meter.objects.all())
    scope = {"organization": period.organization_id, "mode": mode, "period": period.pk, "cut": cut_at}
    found: Quantities = {}
    sums = _of_kinds(meters, ADDITIVE)
    for meter_id, dimension, quantity in _rows(sql.SUMS_AT_CUT, scope | {"meters": list(sums)}):
        found[sums[meter_id].slug, dimension] = quantity
    measured = _of_kinds(meters, _MEASURES)
    if measured:
        for meter_id, dimension, *figures in _rows(sql.MEASURES_AT_CUT, scope | {"meters": list(measured)}):
            meter = measured[meter_id]
            figure = figures[_MEASURES.index(Aggregation(meter.aggregation))]
            if figure or meter.aggregation != Aggregation.UNIQUE:
                found[meter.slug, dimension] = Decimal(figure)
    weighted = _of_kinds(meters, [Aggregation.TIME_WEIGHTED])
    return found | _integrals(sql.INTEGRALS_AT_CUT, [period.pk], weighted, mode, cut_at=cut_at).get(
        period.pk, {}
    )


def late_since(period: Period, *, cut_at: datetime, mode: str = "live") -> Quantities:
    """By how much the quantities of an ended period differ from those at a cut: what came late, and corrections. Exact
    when the caller holds the shard's lock (take_ledger_cut); quick where nothing came."""
    if not _has_changed(period, cut_at, mode):
        return {}
    now = quantities_by_period([period.pk], mode=mode).get(period.pk, {})
    then = period_quantities_at(period, cut_at=cut_at, mode=mode)
    differences = {key: now.get(key, ZERO) - then.get(key, ZERO) for key in sorted({*now, *then})}
    return {key: difference for key, difference in differences.items() if difference}


def _has_changed(period: Period, cut_at: datetime, mode: str) -> bool:
    """A late reading of an earlier period is carried over into this one."""
    totals = PeriodTotal.objects.filter(
        organization_id=period.organization_id, mode=mode, stored_at__gt=cut_at
    )
    weighted = Meter.objects.filter(aggregation=Aggregation.TIME_WEIGHTED).values("pk")
    own, carried = totals.filter(period_id=period.pk), totals.filter(meter_id__in=weighted)
    return own.exists() or carried.exists()


class _Total(NamedTuple):
    """A row of PeriodTotal; batches read them by the hundred thousand."""

    period_id: int
    meter_id: int
    dimension: str
    sum: Decimal
    billed_count: int
    max: Decimal
    last: Decimal


def _measured(
    period_ids: Sequence[int], totals: Iterable[PeriodTotal | _Total], mode: str, at: datetime | None
) -> dict[int, Quantities]:
    meters = list(Meter.objects.all())
    named = {meter.pk: meter for meter in meters}
    found: dict[int, Quantities] = {}
    additive = {meter.pk for meter in meters if meter.is_additive}
    for total in totals:
        meter = named.get(total.meter_id)
        if meter is None:
            continue
        quantity = total.sum if total.meter_id in additive else _of_total(meter, total)
        if quantity is not None:
            found.setdefault(total.period_id, {})[meter.slug, total.dimension] = quantity
    unique = _of_kinds(meters, [Aggregation.UNIQUE])
    if unique:
        scope = {"periods": list(period_ids), "meters": list(unique), "mode": mode}
        for period_id, meter_id, dimension, count in _rows(sql.UNIQUE, scope):
            found.setdefault(period_id, {})[unique[meter_id].slug, dimension] = Decimal(count)
    weighted = _of_kinds(meters, [Aggregation.TIME_WEIGHTED])
    for period_id, quantities in _integrals(sql.INTEGRALS, period_ids, weighted, mode, at=at).items():
        found.setdefault(period_id, {}).update(quantities)
    return found


def _of_total(meter: Meter, total: PeriodTotal | _Total) -> Decimal | None:
    """The quantity where the period's total knows it; None where it does not, or where nothing was billed."""
    if not total.billed_count:
        return None
    return {Aggregation.MAX.value: total.max, Aggregation.LAST.value: total.last}.get(meter.aggregation)


def _integrals(
    statement: str, period_ids: Sequence[int], meters: dict[int, Meter], mode: str, *, at: datetime | None = None,
    cut_at: datetime | None = None,
) -> dict[int, Quantities]:  # fmt: skip
    if not meters:
        return {}
    named = Period.objects.in_bulk(list(period_ids))
    scope = {"periods": list(named), "meters": list(meters), "mode": mode, "at": at, "cut": cut_at}
    found: dict[int, Quantities] = {}
    for period_id, meter_id, dimension, value_us in _rows(statement, scope):
        meter = meters[meter_id]
        quantity = over_time(value_us, unit_micros(meter.time_unit, named[period_id]))
        found.setdefault(period_id, {})[meter.slug, dimension] = quantity
    return found


def _of_kinds(meters: Iterable[Meter], kinds: Collection[str]) -> dict[int, Meter]:
    return {meter.pk: meter for meter in meters if meter.aggregation in kinds}


def _rows(statement: str, scope: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, scope)
        return list(cursor.fetchall())
