"""Dimensions of a meter as text: what totals and statement lines are kept apart by.

`name=value` joined by `;` in the meter's order, a missing value empty; `%`, `;` and `=` are escaped (`%25`, `%3B`, `%3D`).
No dimensions: ''. The drain writes the same text in SQL (metering/ledger_sql.py).
"""

import json
from collections.abc import Iterable, Mapping

_ESCAPES = (("%", "%25"), (";", "%3B"), ("=", "%3D"))


def canonical(names: Iterable[str], properties: Mapping[str, object]) -> str:
    """The text of an event's properties in these dimensions."""
    return ";".join(f"{_escaped(name)}={_escaped(as_text(properties.get(name)))}" for name in names)


def values_of(text: str) -> dict[str, str]:
    """Names and values of a dimension text, in its order; a missing value is ''. Raises ValueError for other text."""
    pairs = [part.split("=") for part in text.split(";")] if text else []
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"not a dimension text: {text!r}")
    return {_plain(name): _plain(value) for name, value in pairs}


def match_text(match: Iterable[tuple[str, str]]) -> str:
    """The dimension text of the values that a price asks for, in its order."""
    return ";".join(f"{_escaped(name)}={_escaped(value)}" for name, value in match)


def in_words(text: str) -> str:
    """For people: `eu, small`; a missing value is `none`."""
    return ", ".join(value or "none" for value in values_of(text).values())


def as_text(value: object) -> str:
    """As PostgreSQL's `->>` writes a JSON value."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def filter_texts(allowed: object) -> tuple[str, ...]:
    """The values that a meter's filter lets through, as texts; one value may stand by itself."""
    return tuple(as_text(one) for one in (allowed if isinstance(allowed, list) else [allowed]))


def _escaped(text: str) -> str:
    for plain, escape in _ESCAPES:
        text = text.replace(plain, escape)
    return text


def _plain(text: str) -> str:
    for plain, escape in reversed(_ESCAPES):
        text = text.replace(escape, plain)
    return text
