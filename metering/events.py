"""A usage event, and its JSON in the stream: written by the doors, read by the drain.

Ids and quantities are texts in JSON (no reader rounds them); what is missing is absent. Quantities are in the meter's
unit, times are microseconds since 1970.
"""

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

import orjson

MODES = ("live", "test")
# Reasons of entries that are no usage of their own: what an event was wrong by, and what takes it back altogether.
CORRECTION = "correction"
VOID = "void"
_QUANTITY_BOUND = Decimal(10) ** 26  # numeric(38, 12)
_QUANTITY_DECIMALS = 12


class BadEvent(ValueError):
    """A stream entry that is no event; the text names the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of the ledger to be. `reason` '' is billed; else why its quantity is 0 (or what kind of entry it is)."""

    id: UUID
    occurred_at_us: int
    organization_id: int
    mode: str
    meter_id: int
    period_id: int
    quantity: Decimal
    door: str
    reason: str = ""
    received_at_us: int | None = None
    api_key_id: int | None = None
    product_id: int | None = None
    route_id: int | None = None
    status: int | None = None
    duration_us: int | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    source: str | None = None
    external_id: str | None = None
    request_id: str | None = None
    corrects_id: UUID | None = None
    corrects_at_us: int | None = None
    properties: dict[str, Any] | None = None
    dimension: str | None = None  # of corrections: their event's; else the drain reads it off the properties

    def to_json(self) -> bytes:
        """The event as the stream's field `e`."""
        values = {
            "id": str(self.id), "at": self.occurred_at_us, "rx": self.received_at_us,
            "org": str(self.organization_id), "mode": self.mode, "meter": str(self.meter_id),
            "period": str(self.period_id), "qty": format(self.quantity, "f"), "key": _text(self.api_key_id),
            "product": _text(self.product_id), "route": _text(self.route_id), "status": self.status,
            "dur": self.duration_us, "in": self.bytes_in, "out": self.bytes_out, "reason": self.reason,
            "door": self.door, "src": self.source, "xid": self.external_id, "rid": self.request_id,
            "corrects": _text(self.corrects_id), "corrects_at": self.corrects_at_us, "props": self.properties,
            "dim": self.dimension,
        }  # fmt: skip
        return orjson.dumps({name: value for name, value in values.items() if value is not None})

    @classmethod
    def from_json(cls, data: bytes | str) -> "Event":
        """The event in a stream entry. Raises BadEvent."""
        try:
            values = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise BadEvent("e: not JSON") from error
        if not isinstance(values, dict):
            raise BadEvent("e: not an object")
        return _read(_Fields(values))


def _read(f: "_Fields") -> Event:
    return Event(
        id=f.uuid("id"),
        occurred_at_us=f.number("at"),
        received_at_us=f.optional_number("rx"),
        organization_id=f.number("org"),
        mode=f.choice("mode", MODES),
        meter_id=f.number("meter"),
        period_id=f.number("period"),
        quantity=f.quantity("qty"),
        door=f.text("door"),
        reason=f.optional_text("reason") or "",
        api_key_id=f.optional_number("key"),
        product_id=f.optional_number("product"),
        route_id=f.optional_number("route"),
        status=f.optional_number("status"),
        duration_us=f.optional_number("dur"),
        bytes_in=f.optional_number("in"),
        bytes_out=f.optional_number("out"),
        source=f.optional_text("src"),
        external_id=f.optional_text("xid"),
        request_id=f.optional_text("rid"),
        corrects_id=f.uuid("corrects") if "corrects" in f.values else None,
        corrects_at_us=f.optional_number("corrects_at"),
        properties=f.optional_object("props"),
        dimension=f.optional_any_text("dim"),
    )


class _Fields:
    """Typed access to a decoded object; every complaint names its field."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def text(self, name: str) -> str:
        value = self.values.get(name)
        if not isinstance(value, str) or not value or "\0" in value:
            raise BadEvent(f"{name}: not a text")
        return value

    def optional_text(self, name: str) -> str | None:
        return self.text(name) if self.values.get(name) else None

    def optional_any_text(self, name: str) -> str | None:
        """Also the empty text, which says something here."""
        if name not in self.values:
            return None
        return self.text(name) if self.values[name] != "" else ""

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        value = self.text(name)
        if value not in choices:
            raise BadEvent(f"{name}: unknown value")
        return value

    def number(self, name: str) -> int:
        value = self.values.get(name)
        if isinstance(value, str) and len(value) < 20 and value.isascii() and value.isdecimal():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
            raise BadEvent(f"{name}: not a whole number")
        return value

    def optional_number(self, name: str) -> int | None:
        return self.number(name) if name in self.values else None

    def uuid(self, name: str) -> UUID:
        try:
            return UUID(self.text(name))
        except ValueError as error:
            raise BadEvent(f"{name}: not a UUID") from error

    def quantity(self, name: str) -> Decimal:
        try:
            value = Decimal(self.text(name))
        except InvalidOperation as error:
            raise BadEvent(f"{name}: not a decimal") from error
        exponent = value.as_tuple().exponent
        if (
            not isinstance(exponent, int)
            or value.copy_abs() >= _QUANTITY_BOUND
            or exponent < -_QUANTITY_DECIMALS
        ):
            raise BadEvent(f"{name}: out of range")
        return value

    def optional_object(self, name: str) -> dict[str, Any] | None:
        value = self.values.get(name)
        if value is not None and not isinstance(value, dict):
            raise BadEvent(f"{name}: not an object")
        return value


def _text(value: object) -> str | None:
    return None if value is None else str(value)
