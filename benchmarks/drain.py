"""How fast the drain is, against a bare COPY into an indexed table of the same shape: one `name value unit` a line.

Run: `python -m benchmarks.drain [events]` with DATABASE_URL and REDIS_URL of servers that hold nothing of value: it works
in a transaction that is rolled back, but its lines pass the write-ahead log.
"""

import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.db import connection, transaction  # noqa: E402

from core.clock import now, to_micros  # noqa: E402
from core.ids import event_id, new_nonce  # noqa: E402
from metering.drain import BATCH  # noqa: E402
from metering.entries import Entry, copy_lines, read_entry  # noqa: E402
from metering.events import Event  # noqa: E402
from metering.ledger import store_entries  # noqa: E402
from metering.ledger_sql import BATCH_TABLE  # noqa: E402
from metering.partitions import ensure_partitions  # noqa: E402

SHARD = 63
ORGANIZATIONS = 20
KEYS = 40


def main(events: int) -> None:
    start = now() - timedelta(hours=6)
    raw = [_raw(number, start) for number in range(events)]
    claimed = [_raw(number, start, xid=f"order-{number}") for number in range(events)]
    with transaction.atomic():
        ensure_partitions(start.date(), 1)
        bare = _rate(events, lambda: _bare_copy([_entry(n, e) for n, e in enumerate(raw)]))
        drained = _rate(events, lambda: _drain(raw))
        with_ids = _rate(events, lambda: _drain(claimed))
        transaction.set_rollback(True)
    parsed = _rate(events, lambda: [_entry(n, e) for n, e in enumerate(raw)])
    for name, value in (
        ("bare_copy", bare),
        ("drain", drained),
        ("drain_with_ids", with_ids),
        ("parse_only", parsed),
    ):
        print(f"{name} {value:.0f} events/s")
    print(f"drain_vs_bare_copy {drained / bare:.2f} ratio")


def _rate(events: int, work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return events / (time.perf_counter() - begun)


def _drain(raw: list[bytes]) -> None:
    for first in range(0, len(raw), BATCH):
        store_entries(SHARD, [_entry(first + n, e) for n, e in enumerate(raw[first : first + BATCH])])


def _bare_copy(entries: list[Entry]) -> None:
    """COPY into a table with the ledger's columns and indexes and nothing else."""
    with connection.cursor() as cursor:
        cursor.execute(BATCH_TABLE.replace("usage_batch_2", "bare").replace("ON COMMIT DELETE ROWS", ""))
        cursor.execute("CREATE TABLE bare_events AS TABLE bare WITH NO DATA")
        for columns in ("organization_id, id, occurred_us", "organization_id, mode, meter_id, occurred_us",
                        "organization_id, mode, occurred_us DESC, id"):  # fmt: skip
            cursor.execute(f"CREATE INDEX ON bare_events ({columns})")
        for first in range(0, len(entries), BATCH):
            with cursor.copy("COPY bare_events FROM STDIN") as copy:
                copy.write(copy_lines(SHARD, entries[first : first + BATCH]))


def _entry(number: int, payload: bytes) -> Entry:
    return read_entry(
        f"{int(datetime.now(UTC).timestamp() * 1000)}-{number}", payload, b"bench:%d" % (number + 1)
    )


def _raw(number: int, start: datetime, xid: str | None = None) -> bytes:
    at = to_micros(start) + number * 1_000
    return Event(
        id=event_id(at, new_nonce()), occurred_at_us=at, received_at_us=at, organization_id=10**9 + number % ORGANIZATIONS,
        mode="live", meter_id=1, period_id=10**9 + number % ORGANIZATIONS, quantity=Decimal(1), door="gateway",
        api_key_id=10**9 + number % KEYS, product_id=1, route_id=number % 5, status=200, duration_us=5_000, bytes_in=120,
        bytes_out=900, request_id=f"req_{number:020d}", source="bench" if xid else None, external_id=xid,
    ).to_json()  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
