"""A reconciliation as a table for people and as JSON for programs."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from metering.reconcile import Line, Reconciliation, plain

_COLUMNS = (
    "organization",
    "mode",
    "meter",
    "period",
    "events",
    "totals",
    "period total",
    "counter",
    "reserved",
    "",
)
_TEXT_COLUMNS = 3


def as_table(outcome: Reconciliation) -> str:
    """Every line, then every difference, then one sentence."""
    bad = {difference.where for difference in outcome.differences}
    rows = [_COLUMNS, *[_row(line, is_bad=line.where in bad) for line in outcome.lines]]
    widths = [max(len(row[number]) for row in rows) for number in range(len(_COLUMNS))]
    table = [_aligned(row, widths) for row in rows] if outcome.lines else []
    return "\n".join([*table, *[f"DIFFERENCE {d}" for d in outcome.differences], _summary(outcome)])


def as_json(outcome: Reconciliation) -> dict[str, Any]:
    """Quantities are decimal strings; `counter` and `reserved` are null where Redis is not asked."""
    return {
        "equal": outcome.is_equal,
        "events": outcome.events,
        "dead_letters": outcome.dead_letters,
        "differences": [
            {"kind": d.kind, "where": d.where, "expected": d.expected, "found": d.found}
            for d in outcome.differences
        ],
        "lines": [
            {
                "organization": line.organization,
                "mode": line.mode,
                "meter": line.meter,
                "period": line.period_id,
                "events": _text(line.events),
                "totals": _text(line.totals),
                "period_total": _text(line.period_total),
                "expected_counter": _text(line.expected),
                "counter": _text(line.counter) or None,
                "reserved": _text(line.reserved) or None,
            }
            for line in outcome.lines
        ],
    }


def _row(line: Line, *, is_bad: bool) -> tuple[str, ...]:
    quantities = (line.events, line.totals, line.period_total, line.counter, line.reserved)
    return (
        line.organization, line.mode, line.meter, str(line.period_id), *map(_text, quantities), "DIFFERS" if is_bad else "",
    )  # fmt: skip


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.ljust(width) if number < _TEXT_COLUMNS or number == len(widths) - 1 else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _text(value: Decimal | None) -> str:
    return "" if value is None else plain(value)


def _summary(outcome: Reconciliation) -> str:
    letters = f"; {outcome.dead_letters} dead letters wait" if outcome.dead_letters else ""
    if outcome.is_equal:
        return f"equal: {outcome.events} events, {len(outcome.lines)} lines{letters}"
    return f"NOT EQUAL: {len(outcome.differences)} differences in {outcome.events} events{letters}"
