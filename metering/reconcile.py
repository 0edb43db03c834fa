"""Proof that counters, totals and events are equal, at one cut (ENGINE.md, section 7).

One script reads an organization's settled counters and the number S of its shard's last event; when the drain has passed
S, one REPEATABLE READ snapshot of the ledger is compared: counters with the events up to S, totals with all events.
Numbers that are missing are losses, found even without Redis. All of it works under traffic.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from django.db import connection, transaction

from accounts.models import Organization
from metering import reconcile_sql as sql
from metering.cuts import OrganizationCut, pass_present, take_cuts
from metering.models import DeadLetter
from plans.models import Aggregation, Meter

ZERO = Decimal(0)


class Key(NamedTuple):
    """What usage is counted by."""

    organization_id: int
    mode: str
    meter_id: int
    period_id: int


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not equal. `kind`: counter, state, total, period_total, hour, last, unique, reason, gap,
    repeated, statement or told."""

    kind: str
    where: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True)
class Line:
    """One key's quantities. `expected` is what the counter must hold at its cut; `counter` and `reserved` are None where
    Redis is not asked (periods closed long ago, lost state)."""

    organization: str
    mode: str
    meter: str
    period_id: int
    events: Decimal
    totals: Decimal
    period_total: Decimal
    expected: Decimal
    counter: Decimal | None
    reserved: Decimal | None
    is_maximum: bool = False

    @property
    def where(self) -> str:
        return f"{self.organization} {self.mode} {self.meter} period {self.period_id}"


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The outcome; open reservations stand in the lines, dead letters are counted apart."""

    lines: tuple[Line, ...]
    differences: tuple[Difference, ...]
    events: int
    dead_letters: int

    @property
    def is_equal(self) -> bool:
        return not self.differences


# What higher floors compare in the same snapshot: billing adds its statements when it is loaded.
Check = Callable[[Organization | None], Iterable[Difference]]
MORE_CHECKS: list[Check] = []


def reconcile(
    *, at: datetime, organization: Organization | None = None, timeout_seconds: float = 30.0
) -> Reconciliation:
    """Compare everything, or one organization (then without the numbers of its shard, which it shares).

    Raises DrainStuck when the drain does not pass the cut in time, MeteringUnavailable or RedisError without Redis.
    """
    organizations = [organization] if organization else list(Organization.objects.all())
    cuts = {cut.organization.pk: cut for cut in take_cuts(organizations, at=at)}
    for shard in sorted({cut.organization.shard for cut in cuts.values()}):
        pass_present(shard, at=at, timeout_seconds=timeout_seconds)
    with transaction.atomic(durable=True):
        return _compare(cuts, organization)


def _compare(cuts: Mapping[int, OrganizationCut], organization: Organization | None) -> Reconciliation:
    scope = {"organization": organization.pk if organization else None}
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute(sql.CUTS)
        with cursor.copy("COPY reconcile_cut FROM STDIN") as copy:
            for org_id, cut in cuts.items():
                copy.write_row((org_id, cut.organization.shard, cut.epoch, cut.seq, cut.corrected))
        cursor.execute(sql.HOURS, scope)
        rows = _rows(sql.LINES, scope)
        names = _Names(cuts)
        lines = tuple(_lines(rows, cuts, names))
        differences = [
            *_lost_states(cuts, names),
            *[difference for line in lines for difference in _line_differences(line)],
            *_period_differences(_rows(sql.PERIOD_DIFFERENCES, scope), names),
            *_other_differences(_rows(sql.OTHER_DIFFERENCES, scope), names),
            *_reason_differences(_rows(sql.REASON_DIFFERENCES, scope), names),
            *_hour_differences(_rows(sql.HOUR_DIFFERENCES, scope), names),
        ]
        if organization is None:
            differences += _number_differences(cuts)
        for check in MORE_CHECKS:
            differences += check(organization)
        events = int(sum(row[8] for row in rows))
    dead_letters = DeadLetter.objects.filter(replayed_at=None).count() if organization is None else 0
    return Reconciliation(lines, tuple(differences), events, dead_letters)


class _Names:
    """Ids as people read them."""

    def __init__(self, cuts: Mapping[int, OrganizationCut]) -> None:
        self._organizations = {org_id: cut.organization.public_id for org_id, cut in cuts.items()}
        self._meters = dict(Meter.objects.values_list("pk", "slug"))
        self.maxima = set(Meter.objects.filter(aggregation=Aggregation.MAX).values_list("pk", flat=True))

    def organization(self, org_id: int) -> str:
        return self._organizations.get(org_id, f"organization {org_id}")

    def meter(self, meter_id: int) -> str:
        return self._meters.get(meter_id, f"meter {meter_id}")

    def where(self, key: Key, dimension: str = "") -> str:
        where = f"{self.organization(key.organization_id)} {key.mode} {self.meter(key.meter_id)} period {key.period_id}"
        return f"{where} {dimension}".rstrip()


def _lines(
    rows: Sequence[tuple[Any, ...]], cuts: Mapping[int, OrganizationCut], names: _Names
) -> Iterator[Line]:
    """A line for each key that the ledger or Redis knows."""
    ledger = {Key(*row[:4]): row[4:8] for row in rows}
    counted = {
        Key(org_id, mode, meter_id, period_id): pair
        for org_id, cut in cuts.items()
        for (mode, period_id, meter_id), pair in cut.counters.items()
    }
    for key in sorted({*ledger, *counted}):
        cut = cuts.get(key.organization_id)
        asked = cut is not None and cut.has_state and key.period_id in cut.period_ids
        counter, reserved = counted.get(key, (ZERO, ZERO)) if asked else (None, None)
        events, totals, period_total, expected = ledger.get(key, (ZERO,) * 4)
        yield Line(
            organization=names.organization(key.organization_id),
            mode=key.mode,
            meter=names.meter(key.meter_id),
            period_id=key.period_id,
            events=events,
            totals=totals,
            period_total=period_total,
            expected=expected,
            counter=counter,
            reserved=reserved,
            is_maximum=key.meter_id in names.maxima,
        )


def _is_counted(line: Line, counter: Decimal) -> bool:
    """A maximum's counter may stand above the ledger's, after a void or a duplicate: nobody knows what it was before."""
    return counter >= line.expected if line.is_maximum else counter == line.expected


def _line_differences(line: Line) -> Iterator[Difference]:
    if line.counter is not None and not _is_counted(line, line.counter):
        yield Difference("counter", line.where, plain(line.expected), plain(line.counter))
    if line.totals != line.events:
        yield Difference("total", line.where, plain(line.events), plain(line.totals))


def _lost_states(cuts: Mapping[int, OrganizationCut], names: _Names) -> Iterator[Difference]:
    for org_id, cut in cuts.items():
        if cut.period_ids and not cut.has_state:
            yield Difference(
                "state", names.organization(org_id), "known to Redis", "missing (rebuild_counters)"
            )


def _period_differences(rows: Sequence[tuple[Any, ...]], names: _Names) -> Iterator[Difference]:
    for row in rows:
        where = names.where(Key(*row[:4]), row[4])
        yield Difference("period_total", where, _period_text(row[5:9]), _period_text(row[9:13]))


def _period_text(values: Sequence[Any]) -> str:
    if values[0] is None:
        return "nothing"
    total, count, billed, most = values
    return f"{plain(total)} of {count} events, {billed} billed, max {plain(most)}"


def _other_differences(rows: Sequence[tuple[Any, ...]], names: _Names) -> Iterator[Difference]:
    for *key, dimension, kind, expected, found in rows:
        yield Difference(kind, names.where(Key(*key), dimension), _optional(expected), _optional(found))


def _reason_differences(rows: Sequence[tuple[Any, ...]], names: _Names) -> Iterator[Difference]:
    for org_id, mode, period_id, reason, expected, found in rows:
        where = f"{names.organization(org_id)} {mode} period {period_id} {reason}"
        yield Difference("reason", where, str(expected or 0), str(found or 0))


def _optional(value: Decimal | None) -> str:
    return "nothing" if value is None else plain(value)


def _hour_differences(rows: Sequence[tuple[Any, ...]], names: _Names) -> Iterator[Difference]:
    for row in rows:
        hour, key_id, route_id, status_class, dimension = row[4:9]
        where = f"{names.where(Key(*row[:4]), dimension)} hour {hour:%Y-%m-%dT%H} key {key_id} route {route_id} status {status_class}xx"
        yield Difference("hour", where, _hour_text(row[9:14]), _hour_text(row[14:19]))


def _hour_text(values: Sequence[Any]) -> str:
    if values[0] is None:
        return "nothing"
    total, count, billed, least, most = values
    return f"{plain(total)} of {count} events, {billed} billed, {plain(least)} to {plain(most)}"


def _number_differences(cuts: Mapping[int, OrganizationCut]) -> Iterator[Difference]:
    """Numbers of a shard that stand nowhere, or twice."""
    rows = _rows(sql.NUMBERS, {})
    known = {(shard, epoch): (count, total) for shard, epoch, count, _, total in rows}
    lasts = {(shard, epoch): last for shard, epoch, _, last, _ in rows}
    for cut in cuts.values():
        if cut.seq:
            number = (cut.organization.shard, cut.epoch)
            lasts[number] = max(cut.seq, lasts.get(number, 0))
    for (shard, epoch), last in sorted(lasts.items()):
        if known.get((shard, epoch)) == (last, last * (last + 1) // 2):
            continue
        scope = {"shard": shard, "epoch": epoch, "last": last}
        where = f"shard {shard} epoch {epoch}"
        for first, final in _rows(sql.GAPS, scope):
            yield Difference("gap", f"{where} numbers {first} to {final}", "stored", "nowhere")
        for seq, times in _rows(sql.REPEATED, scope):
            yield Difference("repeated", f"{where} number {seq}", "once", f"{times} times")


def _rows(statement: str, scope: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, scope)
        return list(cursor.fetchall())


def plain(value: Decimal) -> str:
    """A quantity without trailing zeros or exponent."""
    return format(value.normalize() if value else ZERO, "f")
