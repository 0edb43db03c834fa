"""What a reported event comes to on its meter: units, filters, and what each aggregation asks of it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from plans.dimensions import as_text, canonical, filter_texts
from plans.models import Aggregation, Meter

FILTERED = "filtered"
LARGEST_UNITS = 2**53 - 1
LONGEST_DIMENSION = 200
_COUNTED = (Aggregation.COUNT, Aggregation.UNIQUE)  # an event is one, whatever it was about


@dataclass(frozen=True, slots=True)
class Unmeasurable(Exception):
    """The meter cannot take this event: a code, and the field that it is about."""

    code: str
    field: str


@dataclass(frozen=True, slots=True)
class Measure:
    """`units` are whole smallest units of the meter. Filtered events are recorded with quantity 0 and that reason."""

    units: int
    quantity: Decimal
    reason: str = ""


def measure(
    meter: Meter, *, quantity: Decimal | None, unit: str = "", properties: Mapping[str, Any] | None = None
) -> Measure:
    """An event on its meter, exact: a quantity in base units has to be a whole number of the meter's smallest units.
    Raises Unmeasurable."""
    values = properties or {}
    units = _units(meter, quantity, unit)
    if len(canonical(meter.dimensions, values)) > LONGEST_DIMENSION:
        raise Unmeasurable("too_large", "properties")
    if not passes(meter.filters, values):
        return Measure(0, Decimal(0), FILTERED)
    if meter.aggregation == Aggregation.UNIQUE and not as_text(values.get(meter.value_property)):
        raise Unmeasurable("missing_property", "properties")
    return Measure(units, Decimal(units).scaleb(-meter.decimals))


def passes(filters: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Whether every filtered property has one of its values; compared as text, a missing one is ''."""
    return all(as_text(values.get(name)) in filter_texts(allowed) for name, allowed in filters.items())


def _units(meter: Meter, quantity: Decimal | None, unit: str) -> int:
    own = ("", meter.unit, meter.unit.removesuffix(f"-{meter.time_unit}"))  # readings of GB-hours are in GB
    if unit not in (*own, meter.base_unit):
        raise Unmeasurable("unknown_unit", "unit")
    one: int = 10**meter.decimals
    if meter.aggregation in _COUNTED:
        if quantity not in (None, 1) or unit not in own:
            raise Unmeasurable("counts_one", "quantity")
        return one
    if quantity is None:
        raise Unmeasurable("required", "quantity")
    per_unit = Decimal(1) if unit in own else meter.base_per_unit
    smallest = Fraction(quantity) * one / Fraction(per_unit)
    if smallest.denominator != 1:
        raise Unmeasurable("too_many_decimals", "quantity")
    if not 0 <= smallest.numerator <= LARGEST_UNITS:
        raise Unmeasurable("out_of_range", "quantity")
    return smallest.numerator
