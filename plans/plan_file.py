"""`plans.toml`: the catalogue as a file to review. Its shape, reading and writing; what it does to the database is
plans/plan_sync.py.

Quantities and amounts are texts ("0.001", "49.00" in the currency's major unit): TOML's numbers would be floats. What
equals its default is left out, so that a file says what is particular, and an export is always the same text.
"""

import json
import re
import tomllib
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from core.errors import PortalError

ZERO, ONE = Decimal(0), Decimal(1)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_WORDS = {
    str: "a text",
    int: "a whole number",
    bool: "true or false",
    Decimal: 'a number in quotes, like "0.001"',
}
_HEAD = """\
# The catalogue of this installation: meters, plans and their price lists. Show what a change would do with
# `manage.py plans diff plans.toml`, carry it out with `manage.py plans apply plans.toml` (docs/plans.md).
"""


class PlanFileWrong(PortalError):
    code, status, title = "plan_file_wrong", 400, "This is not a plan file"


@dataclass(frozen=True, slots=True)
class MeterEntry:
    name: str
    unit: str
    aggregation: str = "sum"
    decimals: int = 0
    base_unit: str = ""
    base_per_unit: Decimal = ONE
    time_unit: str = ""
    value_property: str = ""
    dimensions: tuple[str, ...] = ()
    filters: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TierEntry:
    unit_price: Decimal = ZERO
    flat_price: Decimal = ZERO
    up_to: Decimal | None = None


@dataclass(frozen=True, slots=True)
class ComponentEntry:
    meter: str
    model: str = "included"
    match: dict[str, str] = field(default_factory=dict)
    text: str = ""
    included: Decimal = ZERO
    unit_price: Decimal | None = None
    package_size: Decimal = ONE
    quota: Decimal | None = None
    maximum: Decimal | None = None
    tiers: tuple[TierEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class LimitEntry:
    """`calls` is the number of what `measure` names, `units` that of units of a meter; a route by its product and path."""

    window_seconds: int = 0
    calls: int = 0
    measure: str = "calls"
    scope: str = "organization"
    route: str = ""
    model: str = ""
    meter: str = ""
    units: Decimal | None = None


@dataclass(frozen=True, slots=True)
class PriceList:
    """Of one plan, currency and interval; `fee` per interval, `minimum` per usage month, major units."""

    currency: str = "USD"
    interval: str = "month"
    fee: Decimal = ZERO
    minimum: Decimal = ZERO
    over_cap: str = "written_off"
    concurrency: int | None = None
    trial_days: int = 0
    features: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    rate_limits: tuple[LimitEntry, ...] = ()
    components: tuple[ComponentEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanEntry:
    name: str
    description: str = ""
    public: bool = True
    position: int = 0
    prices: tuple[PriceList, ...] = ()


@dataclass(frozen=True, slots=True)
class Catalogue:
    meters: dict[str, MeterEntry] = field(default_factory=dict)
    plans: dict[str, PlanEntry] = field(default_factory=dict)


# Written in a line of their own inside their table, because they are short.
_INLINE = (TierEntry, LimitEntry)


def read_catalogue(text: str) -> Catalogue:
    """The catalogue that a file says. Raises PlanFileWrong, naming the place."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PlanFileWrong(f"Not TOML: {error}.") from error
    catalogue: Catalogue = _entry(Catalogue, table, "the file")
    for slug, plan in catalogue.plans.items():
        pairs = [(prices.currency, prices.interval) for prices in plan.prices]
        if len(set(pairs)) != len(pairs):
            raise PlanFileWrong(f"plans.{slug}: two price lists of one currency and interval.")
        if not pairs:
            raise PlanFileWrong(f"plans.{slug}: no price list. To take the plan off sale, leave it out.")
    return catalogue


def write_catalogue(catalogue: Catalogue) -> str:
    """The file of a catalogue; reading it gives the same catalogue."""
    parts = [_HEAD]
    parts += [_table(f"meters.{_key(slug)}", entry) for slug, entry in catalogue.meters.items()]
    parts += [_table(f"plans.{_key(slug)}", entry) for slug, entry in catalogue.plans.items()]
    return "\n".join(parts)


def plain(value: Decimal) -> str:
    """A number without exponent and without zeros behind the last digit that counts."""
    return f"{value.normalize() if value else ZERO:f}"


# --- reading -----------------------------------------------------------------------------------------------------


@cache
def _shape(entry: Any) -> dict[str, tuple[Any, Field[Any]]]:
    hints = get_type_hints(entry)
    return {f.name: (hints[f.name], f) for f in fields(entry)}


def _entry(entry: Any, table: Any, where: str) -> Any:
    if not isinstance(table, Mapping):
        raise PlanFileWrong(f"{where}: a table is expected.")
    shape = _shape(entry)
    unknown = sorted(set(table) - set(shape))
    if unknown:
        raise PlanFileWrong(f"{where}: {', '.join(unknown)} is not known here ({', '.join(shape)}).")
    for name, (_, found) in shape.items():
        if name not in table and found.default is MISSING and found.default_factory is MISSING:
            raise PlanFileWrong(f"{where}: {name} is missing.")
    return entry(**{name: _value(shape[name][0], value, f"{where}, {name}") for name, value in table.items()})


def _value(kind: Any, value: Any, where: str) -> Any:
    if isinstance(kind, types.UnionType):  # an optional value is left out, never written as nothing
        return _value(get_args(kind)[0], value, where)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise PlanFileWrong(f"{where}: a list is expected.")
        return tuple(_value(get_args(kind)[0], one, f"{where} {n}") for n, one in enumerate(value, 1))
    if get_origin(kind) is dict:
        if not isinstance(value, Mapping):
            raise PlanFileWrong(f"{where}: a table is expected.")
        return {name: _value(get_args(kind)[1], one, f"{where}.{name}") for name, one in value.items()}
    if is_dataclass(kind):
        return _entry(kind, value, where)
    return _decimal(value, where) if kind is Decimal else _plain_value(kind, value, where)


def _plain_value(kind: type[Any], value: Any, where: str) -> Any:
    if type(value) is not kind:  # exactly: True is an int for Python
        raise PlanFileWrong(f"{where}: {_WORDS[kind]} is expected.")
    return value


def _decimal(value: Any, where: str) -> Decimal:
    try:
        number = Decimal(value) if isinstance(value, str) else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite():
        raise PlanFileWrong(f"{where}: {_WORDS[Decimal]} is expected.")
    return number


# --- writing -----------------------------------------------------------------------------------------------------


def _table(path: str, entry: Any, *, of_list: bool = False) -> str:
    """A table with its values first and its lists of tables after them."""
    lines = [f"[[{path}]]" if of_list else f"[{path}]"]
    lines += [f"{_key(name)} = {text}" for name, text in _values(entry)]
    below = [
        _table(f"{path}.{name}", one, of_list=True) for name, ones in _tables_below(entry) for one in ones
    ]
    return "\n".join(["\n".join(lines) + "\n", *below])


def _said(entry: Any) -> Iterator[tuple[str, Any]]:
    """Fields that differ from their default, in the order of the class."""
    kind: Any = type(entry)
    for name, (_, found) in _shape(kind).items():
        value = getattr(entry, name)
        default = found.default_factory() if found.default_factory is not MISSING else found.default
        if value != default:
            yield name, value


def _values(entry: Any) -> Iterator[tuple[str, str]]:
    return ((name, _text(value)) for name, value in _said(entry) if not _is_tables(value))


def _tables_below(entry: Any) -> Iterator[tuple[str, tuple[Any, ...]]]:
    return ((name, value) for name, value in _said(entry) if _is_tables(value))


def _is_tables(value: Any) -> bool:
    return isinstance(value, tuple) and is_dataclass(value[0]) and not isinstance(value[0], _INLINE)


def _text(value: Any) -> str:
    if isinstance(value, Decimal):
        return f'"{plain(value)}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(name)} = {_text(one)}" for name, one in value.items()) + " }"
    if is_dataclass(value):
        return "{ " + ", ".join(f"{name} = {text}" for name, text in _values(value)) + " }"
    if value and isinstance(value[0], _INLINE):
        return "[\n" + "".join(f"  {_text(one)},\n" for one in value) + "]"
    return "[" + ", ".join(_text(one) for one in value) + "]"


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    """A basic string of TOML: as JSON writes it, but for one control character that JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
