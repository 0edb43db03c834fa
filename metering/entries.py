"""Entries of the usage stream as the drain reads them: parsed, checked, and written as a line of COPY.

What cannot be stored is found here and not in the middle of a batch; what slips through, the drain finds by halving.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime

import orjson

from core.clock import from_micros, to_micros
from metering.events import BadEvent, Event

COLUMNS = (
    "n", "id", "occurred_us", "received_us", "organization_id", "mode", "meter_id", "period_id", "quantity",
    "api_key_id", "product_id", "route_id", "status", "duration_us", "bytes_in", "bytes_out", "reason", "door",
    "source", "external_id", "request_id", "corrects_id", "corrects_us", "properties", "dimension", "shard", "epoch", "seq",
)  # fmt: skip
EARLIEST_US = to_micros(datetime(2015, 1, 1, tzinfo=UTC))
AHEAD_US = (
    366 * 86_400_000_000
)  # an event of a later year is a broken clock, and would make partitions for ever
NULL = "\\N"
PROPERTIES_BYTES = 2048
_LONGEST = (
    ("reason", 40),
    ("door", 8),
    ("source", 80),
    ("external_id", 200),
    ("request_id", 40),
    ("dimension", 200),
)
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a shard's stream. Without an `event`, `problem` says why."""

    stream_id: str
    payload: bytes
    epoch: str
    seq: int
    event: Event | None
    problem: str = ""

    @property
    def appended_at(self) -> datetime:
        return stream_time(self.stream_id)

    @property
    def month(self) -> date:
        """The partition of its event."""
        assert self.event is not None  # noqa: S101  # asked of readable entries only
        return from_micros(self.event.occurred_at_us).date().replace(day=1)


def read_entry(stream_id: str, payload: bytes, number: bytes) -> Entry:
    """An entry from the fields `e` and `q` of the stream; never raises."""
    epoch, _, digits = number.decode(errors="replace").rpartition(":")
    if not epoch or len(epoch) > 32 or not digits.isdecimal() or not digits.isascii() or int(digits) >= 2**63:
        return Entry(stream_id, payload, "", 0, None, "q: not epoch:number")
    try:
        event = read_event(payload, received_at=stream_time(stream_id))
    except BadEvent as error:
        return Entry(stream_id, payload, epoch, int(digits), None, str(error)[:400])
    return Entry(stream_id, payload, epoch, int(digits), event)


def stream_time(stream_id: str) -> datetime:
    """When an entry came into the stream, by the clock of Redis."""
    return from_micros(int(stream_id.partition("-")[0]) * 1000)


def read_event(payload: bytes, *, received_at: datetime) -> Event:
    """The event in a payload that came at this time. Raises BadEvent, also for what the ledger's columns cannot hold."""
    event = Event.from_json(payload)
    _check(event, to_micros(received_at) + AHEAD_US)
    return event


def _check(event: Event, latest_us: int) -> None:
    if not EARLIEST_US <= event.occurred_at_us <= latest_us:
        raise BadEvent("at: outside the time that the ledger accepts")
    if not EARLIEST_US <= (event.received_at_us or event.occurred_at_us) <= latest_us:
        raise BadEvent("rx: outside the time that the ledger accepts")
    if not 0 <= (event.corrects_at_us or 0) <= latest_us:
        raise BadEvent("corrects_at: outside the time that the ledger accepts")
    if event.quantity < 0 and event.corrects_id is None:
        raise BadEvent("qty: negative, and corrects nothing")
    if (event.status or 0) > 999:
        raise BadEvent("status: not a status")
    for name, longest in _LONGEST:
        if len(getattr(event, name) or "") > longest:
            raise BadEvent(f"{name}: longer than {longest} characters")
    if event.properties is not None and len(orjson.dumps(event.properties)) > PROPERTIES_BYTES:
        raise BadEvent(f"props: larger than {PROPERTIES_BYTES} bytes")


def copy_lines(shard: int, entries: Iterable[Entry]) -> str:
    """COPY's text format of these entries, in the order of COLUMNS; `n` is the place in the batch."""
    return "".join(_line(n, shard, entry) for n, entry in enumerate(entries))


def _line(n: int, shard: int, entry: Entry) -> str:
    e = entry.event
    assert e is not None  # noqa: S101  # unreadable entries never get here
    properties = NULL if e.properties is None else orjson.dumps(e.properties).decode().translate(_ESCAPES)
    dimension = NULL if e.dimension is None else e.dimension.translate(_ESCAPES)
    return (
        f"{n}\t{e.id}\t{e.occurred_at_us}\t{e.received_at_us or e.occurred_at_us}\t{e.organization_id}\t{e.mode}\t"
        f"{e.meter_id}\t{e.period_id}\t{e.quantity:f}\t{e.api_key_id or 0}\t{e.product_id or 0}\t{e.route_id or 0}\t"
        f"{e.status or 0}\t{e.duration_us or 0}\t{e.bytes_in or 0}\t{e.bytes_out or 0}\t{_text(e.reason)}\t"
        f"{_text(e.door)}\t{_text(e.source)}\t{_text(e.external_id)}\t{_text(e.request_id)}\t{e.corrects_id or NULL}\t"
        f"{e.corrects_at_us or NULL}\t{properties}\t{dimension}\t{shard}\t{_text(entry.epoch)}\t{entry.seq}\n"
    )


def _text(value: str | None) -> str:
    return value.translate(_ESCAPES) if value else ""
