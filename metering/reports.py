"""Usage by anything that the hourly totals keep apart, page by page. Quantities in the meter's unit; hours are UTC hours."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from django.db import connection

from accounts.models import Organization
from plans.models import Meter

GROUPS = {
    "day": ("date_trunc('day', hour, %(zone)s)", "timestamptz"),
    "hour": ("hour", "timestamptz"),
    "key": ("api_key_id", "bigint"),
    "route": ("route_id", "bigint"),
    "status": ("status_class", "smallint"),
    "dimension": ("dimension", "text"),
}
_QUANTITY = """CASE m.aggregation WHEN 'sum' THEN sum(t.sum) WHEN 'count' THEN sum(t.sum)
    WHEN 'max' THEN max(t.max) FILTER (WHERE t.billed_count > 0)
    WHEN 'last' THEN (array_agg(t.last ORDER BY t.last_at DESC, t.last_id DESC) FILTER (WHERE t.billed_count > 0))[1] END"""


class BadCursor(ValueError):
    """This is no cursor of this report."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a report is of: a window of whole UTC hours, and what it is narrowed to (empty: all)."""

    organization: Organization
    start: datetime
    end: datetime
    mode: str = "live"
    meters: Sequence[int] = ()
    keys: Sequence[int] = ()
    routes: Sequence[int] = ()
    status_classes: Sequence[int] = ()
    dimensions: Sequence[str] = ()
    group_by: tuple[str, ...] = ()
    zone: str = "UTC"


class ReportRow(NamedTuple):
    """Usage of one group. `quantity` None: it cannot be told from hours (unique and time-weighted meters)."""

    meter_id: int
    group: dict[str, Any]
    quantity: Decimal | None
    calls: int
    billed_calls: int


@dataclass(frozen=True, slots=True)
class ReportPage:
    rows: list[ReportRow]
    next: str = ""


@dataclass(frozen=True, slots=True)
class Trend:
    """A meter in the window, and in the window of the same length before it."""

    meter: Meter
    quantity: Decimal | None
    calls: int
    before: Decimal | None
    calls_before: int = 0
    change_percent: Decimal | None = field(default=None)


def usage_report(wanted: Wanted, *, after: str = "", limit: int = 500) -> ReportPage:
    """Groups in their order, meter last. Raises BadCursor."""
    names = wanted.group_by
    columns = [GROUPS[name][0].replace("hour", "t.hour") if name in ("day", "hour") else f"t.{GROUPS[name][0]}" for name in names]  # fmt: skip
    keys = [f"g{number}" for number in range(len(names))] + ["meter_id"]
    types = [GROUPS[name][1] for name in names] + ["bigint"]
    values = _values(wanted) | {"limit": limit + 1}
    beyond = ""
    if after:
        for number, value in enumerate(_decode(after, types)):
            values[f"c{number}"] = value
        marks = ", ".join(f"%(c{number})s::{kind}" for number, kind in enumerate(types))
        beyond = f"WHERE ({', '.join(keys)}) > ({marks})"
    heads = "".join(f"{column} AS {key}, " for column, key in zip(columns, keys, strict=False))
    statement = f"""
        SELECT {", ".join(keys)}, quantity, calls, billed FROM (
            SELECT {heads} t.meter_id, {_QUANTITY} AS quantity, sum(t.count)::bigint AS calls, sum(t.billed_count)::bigint AS billed
            FROM usage_total t JOIN plans_meter m ON m.id = t.meter_id
            WHERE {_where(wanted)} GROUP BY {"".join(f"{key}, " for key in keys[:-1])} t.meter_id, m.aggregation
        ) grouped {beyond} ORDER BY {", ".join(keys)} LIMIT %(limit)s
    """  # noqa: S608  # names of this module
    rows = _rows(statement, values)
    found = [
        ReportRow(row[len(names)], dict(zip(names, row, strict=False)), *row[len(names) + 1 :])
        for row in rows[:limit]
    ]
    following = _encode(rows[limit - 1][: len(keys)]) if len(rows) > limit else ""
    return ReportPage(found, following)


def usage_trend(wanted: Wanted, *, at: datetime) -> list[Trend]:
    """Each meter in the window so far, against as much time right before the window."""
    end = min(wanted.end, max(at, wanted.start))
    before = _totals(wanted, wanted.start - (end - wanted.start), wanted.start)
    now = _totals(wanted, wanted.start, end)
    meters = Meter.objects.in_bulk({*now, *before})
    return [_trend(meters[pk], now.get(pk), before.get(pk)) for pk in sorted(meters)]


def _trend(
    meter: Meter, now: tuple[Decimal | None, int] | None, before: tuple[Decimal | None, int] | None
) -> Trend:
    quantity, calls = now or (Decimal(0), 0)
    old, calls_before = before or (Decimal(0), 0)
    change = None
    if quantity is not None and old:
        change = ((quantity - old) * 100 / old).quantize(Decimal("0.1"))
    return Trend(meter, quantity, calls, old, calls_before, change)


def _totals(wanted: Wanted, start: datetime, end: datetime) -> dict[int, tuple[Decimal | None, int]]:
    statement = f"""
        SELECT t.meter_id, {_QUANTITY}, sum(t.count)::bigint FROM usage_total t JOIN plans_meter m ON m.id = t.meter_id
        WHERE {_where(wanted)} GROUP BY t.meter_id, m.aggregation
    """  # noqa: S608  # names of this module
    rows = _rows(statement, _values(wanted) | {"start": start, "end": end})
    return {meter: (quantity, calls) for meter, quantity, calls in rows}


def _where(wanted: Wanted) -> str:
    parts = [
        "t.organization_id = %(organization)s AND t.mode = %(mode)s AND t.hour >= %(start)s AND t.hour < %(end)s"
    ]
    narrowed = (
        ("meter_id", "meters"), ("api_key_id", "keys"), ("route_id", "routes"), ("status_class", "status_classes"),
        ("dimension", "dimensions"),
    )  # fmt: skip
    parts += [f"t.{column} = ANY(%({name})s)" for column, name in narrowed if getattr(wanted, name)]
    return " AND ".join(parts)


def _values(wanted: Wanted) -> dict[str, Any]:
    return {
        "organization": wanted.organization.pk, "mode": wanted.mode, "start": wanted.start, "end": wanted.end,
        "zone": wanted.zone, "meters": list(wanted.meters), "keys": list(wanted.keys), "routes": list(wanted.routes),
        "status_classes": list(wanted.status_classes), "dimensions": list(wanted.dimensions),
    }  # fmt: skip


def _encode(values: Iterable[Any]) -> str:
    texts = [value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value for value in values]
    return urlsafe_b64encode(json.dumps(texts).encode()).decode().rstrip("=")


def _decode(cursor: str, types: Sequence[str]) -> list[Any]:
    try:
        values = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(values, list):
            raise BadCursor
        return [_READ[kind](value) for kind, value in zip(types, values, strict=True)]
    except (ValueError, TypeError, RecursionError):
        raise BadCursor from None


def _moment(value: Any) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise BadCursor
    return moment


def _whole(value: Any) -> int:
    if not isinstance(value, int) or abs(value) >= 2**63:
        raise BadCursor
    return value


def _small(value: Any) -> int:
    if abs(_whole(value)) >= 2**15:
        raise BadCursor
    return int(value)


def _line(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise BadCursor
    return value


_READ: dict[str, Callable[[Any], Any]] = {
    "timestamptz": _moment,
    "bigint": _whole,
    "smallint": _small,
    "text": _line,
}


def _rows(statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())
