from collections.abc import Callable
from datetime import UTC, date, datetime
from threading import Barrier, Thread

import pytest
from django.db import connection, transaction

from core.clock import now
from metering.drain import drain_all, drain_shard
from metering.models import UsageEvent
from metering.partitions import ensure_partitions, make_partitions, month_of
from tests.metering.ledger_kit import Ledger


def partitions_of(table: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass ORDER BY 1",
            [table],
        )
        return [name for (name,) in cursor.fetchall()]


@pytest.mark.django_db
def test_this_month_and_three_more_are_made_once() -> None:
    expected = [date(2031, 11, 1), date(2031, 12, 1), date(2032, 1, 1), date(2032, 2, 1)]
    assert ensure_partitions(date(2031, 11, 30)) == expected
    assert ensure_partitions(date(2031, 11, 2)) == []
    assert {"usage_event_203111", "usage_event_203202"} <= set(partitions_of("usage_event"))


@pytest.mark.django_db
def test_a_partition_has_the_indexes_of_the_ledger_and_there_is_no_default_one() -> None:
    make_partitions([date(2031, 5, 1)])
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_indexes WHERE tablename = 'usage_event_203105'")
        assert cursor.fetchone() == (5,)
        cursor.execute(
            "SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid"
            " AND a.attnum = d.adnum WHERE d.adrelid = 'usage_event_203105'::regclass AND a.attname = 'stored_at'"
        )
        assert cursor.fetchone() == ("clock_timestamp()",)
        cursor.execute("SELECT partdefid FROM pg_partitioned_table WHERE partrelid = 'usage_event'::regclass")
        assert cursor.fetchone() == (0,)
    assert len(partitions_of("usage_event_key")) == 16


def test_a_month_is_that_of_utc() -> None:
    assert month_of(datetime.fromisoformat("2026-06-01T01:30:00+02:00")) == date(2026, 5, 1)


def test_the_drain_makes_a_missing_month(ledger: Ledger) -> None:
    last_instant = int(datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC).timestamp()) * 1_000_000 + 999_999
    for at in (last_instant, last_instant + 1):
        ledger.append(ledger.event(at))
    drain_all(at=now())
    assert UsageEvent.objects.count() == 2
    assert _rows("usage_event_202402") == _rows("usage_event_202403") == 1


def test_drains_that_miss_the_same_month_both_pass(ledger: Ledger) -> None:
    other = Ledger.start(shard=18)
    at = int(datetime(2023, 7, 1, tzinfo=UTC).timestamp()) * 1_000_000
    ledger.append(ledger.event(at))
    other.append(other.event(at))
    barrier = Barrier(2)

    def work(shard: int) -> Callable[[], None]:
        def run() -> None:
            try:
                barrier.wait()
                drain_shard(shard, at=now())
            finally:
                connection.close()

        return run

    threads = [Thread(target=work(shard)) for shard in (17, 18)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _rows("usage_event_202307") == 2


@pytest.mark.django_db(transaction=True)
def test_readers_and_writers_go_on_while_a_month_is_made() -> None:
    make_partitions([date(2032, 6, 1)])
    seen: list[list[date]] = []

    def work() -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '3s'")
            seen.append(make_partitions([date(2032, 7, 1)]))
        finally:
            connection.close()

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE usage_event IN ROW EXCLUSIVE MODE")
        thread = Thread(target=work)
        thread.start()
        thread.join()
    assert seen == [[date(2032, 7, 1)]]


def _rows(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        (count,) = cursor.fetchone()
        return int(count)
