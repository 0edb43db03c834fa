"""Storing events: rows, totals, claimed ids, corrections and dead letters, all in the caller's transaction.

Everything that ever enters the ledger passes here: the drain, replays and history. What a door settled is in the counters
of Redis already; `Uncounted` marks what is not, and leaves corrections for it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import cast

import psycopg
from django.db import DataError, IntegrityError, connection, transaction
from django.db.models import Max

from metering.entries import COLUMNS, Entry, copy_lines
from metering.events import VOID
from metering.ledger_sql import BATCH_TABLE, CLAIM_IDS, CORRECT_DUPLICATES, INSERT
from metering.models import CounterCorrection, DeadLetter, PeriodTotal
from metering.partitions import make_partitions
from metering.totals_sql import AFTER_VOIDS_OF_BATCH
from plans.models import ADDITIVE, Aggregation, Meter

CounterKey = tuple[int, str, int, int]  # organization, mode, meter, period
LOCK_CLASS = 1_178_747_215  # advisory locks of the shards; partitions use the next number
# Errors that the data of a batch can cause; anything else (a deadlock, a lost server) fails the batch as a whole.
DATA_ERRORS = (DataError, IntegrityError, psycopg.DataError, psycopg.IntegrityError)


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a batch: new rows, entries that changed nothing (delivered again or duplicates), dead letters."""

    stored: int = 0
    repeated: int = 0
    dead: int = 0

    def __add__(self, other: "Stored") -> "Stored":
        return Stored(self.stored + other.stored, self.repeated + other.repeated, self.dead + other.dead)

    @property
    def entries(self) -> int:
        return self.stored + self.repeated + self.dead


@dataclass(frozen=True, slots=True)
class Uncounted:
    """Events that the counters in Redis, numbered under `epoch`, do not have. Without an epoch Redis has no counters."""

    epoch: str
    reason: str


def lock_shard(shard: int, *, wait: bool = False) -> bool:
    """Take a shard's drain lock until the transaction ends; False when another holds it and `wait` is not set."""
    with connection.cursor() as cursor:
        if wait:
            cursor.execute("SELECT true FROM pg_advisory_xact_lock(%s, %s)", [LOCK_CLASS, shard])
        else:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [LOCK_CLASS, shard])
        return bool(cursor.fetchone() == (True,))


def take_ledger_cut(shards: Iterable[int]) -> datetime:
    """A moment by the database's clock that divides the ledger: of these shards, every event that is committed now was
    stored at it or before, every later one is stored after it. Takes their drain locks, in order, until the caller's
    transaction ends: until then totals are exactly the events up to the cut."""
    for shard in sorted(set(shards)):
        lock_shard(shard, wait=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (cut_at,) = cursor.fetchone()
    return cast(datetime, cut_at)


def store_entries(shard: int, entries: Sequence[Entry], *, uncounted: Uncounted | None = None) -> Stored:
    """Store a batch of one shard, whose lock the caller holds. Bad entries become dead letters, never errors."""
    readable = [entry for entry in entries if entry.event is not None]
    stored = Stored(dead=_bury([entry for entry in entries if entry.event is None], shard))
    make_partitions({entry.month for entry in readable})
    return stored + _store_or_halve(shard, readable, uncounted)


def store_entry(shard: int, entry: Entry, *, uncounted: Uncounted | None = None) -> Stored:
    """Store one readable entry. Raises one of DATA_ERRORS instead of burying it."""
    make_partitions([entry.month])
    with transaction.atomic():
        return _store(shard, [entry], uncounted)


def _store_or_halve(shard: int, entries: Sequence[Entry], uncounted: Uncounted | None) -> Stored:
    """A batch that the database refuses is halved until the bad entry is alone."""
    if not entries:
        return Stored()
    try:
        with transaction.atomic():
            return _store(shard, entries, uncounted)
    except DATA_ERRORS as error:
        if len(entries) == 1:
            return Stored(dead=_bury(entries, shard, problem=first_line(error)))
    middle = len(entries) // 2
    first = _store_or_halve(shard, entries[:middle], uncounted)
    return first + _store_or_halve(shard, entries[middle:], uncounted)


def _store(shard: int, entries: Sequence[Entry], uncounted: Uncounted | None) -> Stored:
    counted_before = _maxima(entries) if uncounted is not None and uncounted.epoch else {}
    with connection.cursor() as cursor:
        cursor.execute(BATCH_TABLE)
        cursor.execute("DELETE FROM usage_batch_2")  # what an earlier half of the same transaction left
        with cursor.copy(f"COPY usage_batch_2 ({', '.join(COLUMNS)}) FROM STDIN") as copy:
            copy.write(copy_lines(shard, entries))
        if any(entry.event and entry.event.external_id for entry in entries):
            cursor.execute(CLAIM_IDS)
        cursor.execute(INSERT)
        sums = cursor.fetchall()
        if any(entry.event and entry.event.reason == VOID for entry in entries):
            for statement in AFTER_VOIDS_OF_BATCH:
                cursor.execute(statement)
        stored = sum(row[-1] for row in sums)
        if stored < len(entries) and uncounted is None:
            cursor.execute(CORRECT_DUPLICATES)
    if uncounted is not None and uncounted.epoch:
        _correct_counters(shard, _growth(sums, counted_before, _maxima(entries)), uncounted)
    return Stored(stored=stored, repeated=len(entries) - stored)


def _maxima(entries: Sequence[Entry]) -> dict[CounterKey, Decimal]:
    """What the totals have as the largest reading of the maxima that these entries are about."""
    events = [entry.event for entry in entries if entry.event is not None]
    totals = PeriodTotal.objects.filter(
        organization_id__in={event.organization_id for event in events},
        meter_id__in=Meter.objects.filter(aggregation=Aggregation.MAX).values("pk"),
        period_id__in={event.period_id for event in events},
    )
    rows = totals.values_list("organization_id", "mode", "meter_id", "period_id").annotate(most=Max("max"))
    return {(row[0], row[1], row[2], row[3]): row[4] for row in rows}


def _growth(
    sums: Sequence[tuple[int, str, int, int, Decimal, int]],
    before: dict[CounterKey, Decimal],
    after: dict[CounterKey, Decimal],
) -> dict[CounterKey, Decimal]:
    """By how much counters have to grow: sums by what was added, maxima up to the new one (never down: what is not
    drained yet may be larger), other readings not at all, because nothing counts them."""
    others = set(Meter.objects.exclude(aggregation__in=ADDITIVE).values_list("pk", flat=True))
    growth = {(row[0], row[1], row[2], row[3]): row[4] for row in sums if row[2] not in others}
    grown = {key: most - before.get(key, Decimal(0)) for key, most in after.items()}
    return growth | {key: more for key, more in grown.items() if more > 0}


def _correct_counters(shard: int, growth: dict[CounterKey, Decimal], uncounted: Uncounted) -> None:
    CounterCorrection.objects.bulk_create(
        CounterCorrection(
            shard=shard,
            epoch=uncounted.epoch,
            organization_id=organization_id,
            mode=mode,
            meter_id=meter_id,
            period_id=period_id,
            quantity=quantity,
            reason=uncounted.reason,
        )
        for (organization_id, mode, meter_id, period_id), quantity in growth.items()
        if quantity
    )


def _bury(entries: Sequence[Entry], shard: int, *, problem: str = "") -> int:
    letters = [
        DeadLetter(
            shard=shard,
            epoch=entry.epoch,
            seq=entry.seq,
            stream_id=entry.stream_id,
            payload=entry.payload.decode(errors="backslashreplace").replace("\0", "\\x00"),
            reason=(problem or entry.problem)[:400],
            received_at=entry.appended_at,
        )
        for entry in entries
    ]
    DeadLetter.objects.bulk_create(letters, ignore_conflicts=True)
    return len(letters)


def first_line(error: Exception) -> str:
    """What a database error says, without its details."""
    return (str(error).splitlines() or [type(error).__name__])[0]
