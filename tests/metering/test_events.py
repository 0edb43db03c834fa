"""Events and their JSON: what goes in comes out, and what is none is named."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.events import BadEvent, Event

ID = UUID("01a1fc81-3f4f-7f71-9568-c3fb86719eb8")
SMALL: dict[str, Any] = {
    "id": ID, "occurred_at_us": 1_800_000_000_000_001, "organization_id": 5, "mode": "live", "meter_id": 2,
    "period_id": 7, "quantity": Decimal("0.000000000001"), "door": "gateway",
}  # fmt: skip


def changed(**values: Any) -> bytes:
    fields = orjson.loads(Event(**SMALL).to_json()) | values
    return orjson.dumps({name: value for name, value in fields.items() if value is not ...}, default=str)


def test_what_is_missing_is_absent_and_ids_are_texts() -> None:
    assert orjson.loads(Event(**SMALL).to_json()) == {
        "id": str(ID), "at": 1_800_000_000_000_001, "org": "5", "mode": "live", "meter": "2", "period": "7",
        "qty": "0.000000000001", "door": "gateway", "reason": "",
    }  # fmt: skip


@given(
    quantity=st.decimals(min_value=-(10**25), max_value=10**25, places=12),
    numbers=st.lists(st.none() | st.integers(0, 2**63 - 1), min_size=8, max_size=8),
    text=st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
    properties=st.none() | st.dictionaries(st.text(max_size=5), st.integers(-5, 5), max_size=3),
)
def test_every_field_survives(
    quantity: Decimal, numbers: list[int | None], text: str | None, properties: dict[str, int] | None
) -> None:
    names = ("received_at_us", "api_key_id", "product_id", "route_id", "status", "duration_us", "bytes_in", "bytes_out")  # fmt: skip
    event = Event(
        **SMALL | dict(zip(names, numbers, strict=True)) | {"quantity": quantity}, source=text, external_id=text,
        request_id=text, corrects_id=ID, corrects_at_us=3, properties=properties, reason="client_gone",
    )  # fmt: skip
    assert Event.from_json(event.to_json()) == event


def test_large_quantities_are_written_without_exponent() -> None:
    assert b'"qty":"1000"' in Event(**SMALL | {"quantity": Decimal("1E+3")}).to_json()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "x"), ("id", ...), ("at", "x"), ("at", -1), ("at", True), ("at", 1.5), ("org", ...), ("org", "-1"),
        ("org", "9" * 5000), ("mode", "other"), ("mode", ...), ("meter", None), ("period", "²"), ("qty", 1), ("qty", "x"),
        ("qty", "NaN"), ("qty", "Infinity"), ("qty", "1e27"), ("qty", "1e-13"), ("qty", "1e999999999"), ("door", ""),
        ("door", "a\0b"), ("reason", 5), ("status", "x"), ("corrects", "x"), ("props", []), ("rid", "\0"),
    ],
)  # fmt: skip
def test_bad_field_is_named(field: str, value: Any) -> None:
    with pytest.raises(BadEvent, match=f"^{field}: "):
        Event.from_json(changed(**{field: value}))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b'"x"'])
def test_what_is_no_object_is_no_event(data: bytes) -> None:
    with pytest.raises(BadEvent, match="^e: "):
        Event.from_json(data)
