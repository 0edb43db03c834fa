"""What Stripe has against what we would make: field by field, in words. Pure; Stripe's objects are plain dictionaries."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from billing.stripe.catalogue import Payload

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same. `problem`: missing, differs or orphan. `subject` names it for a finding: Stripe's
    id, or what has none yet."""

    problem: str
    subject: str
    text: str
    ours: Fields
    theirs: Fields

    def __str__(self) -> str:
        return f"{self.problem}: {self.text}"


def missing(subject: str, name: str) -> Difference:
    return Difference("missing", subject, f"{name} is not at Stripe.", {"name": name}, {})


def orphan(subject: str, name: str) -> Difference:
    text = f"{name} ({subject}) is at Stripe and belongs to nothing here."
    return Difference("orphan", subject, text, {}, {"name": name})


def differing(subject: str, name: str, ours: Fields, theirs: Fields) -> list[Difference]:
    """One difference that names every field that is not the same, or none."""
    names = [field for field in ours if ours[field] != theirs.get(field)]
    if not names:
        return []
    words = "; ".join(f"{field} is {_said(theirs.get(field))}, here {_said(ours[field])}" for field in names)
    return [
        Difference(
            "differs",
            subject,
            f"{name} ({subject}): {words}.",
            {field: ours[field] for field in names},
            {field: theirs.get(field) for field in names},
        )
    ]


def price_fields(price: Payload) -> Fields:
    """What makes a price, alike for a payload of ours and for Stripe's object: amounts as plain digits."""
    recurring = price.get("recurring") or {}
    return {
        "product": price.get("product"),
        "currency": price.get("currency"),
        "interval": f"{recurring.get('interval')} x {recurring.get('interval_count') or 1}",
        "usage": recurring.get("usage_type", "licensed"),
        "meter": recurring.get("meter"),
        "scheme": price.get("billing_scheme"),
        "amount": _amount(price, "unit_amount"),
        "tiers mode": price.get("tiers_mode"),
        "tiers": [_tier(tier) for tier in price.get("tiers") or []],
        "package": _package(price.get("transform_quantity")),
    }


def product_fields(product: Payload) -> Fields:
    return {"name": product.get("name"), "description": product.get("description") or ""}


def meter_fields(meter: Payload) -> Fields:
    return {
        "event name": meter.get("event_name"),
        "aggregation": (meter.get("default_aggregation") or {}).get("formula"),
        "customer key": (meter.get("customer_mapping") or {}).get("event_payload_key"),
        "value key": (meter.get("value_settings") or {}).get("event_payload_key"),
    }


def _tier(tier: Mapping[str, Any]) -> str:
    end = tier.get("up_to")
    flat = _amount(tier, "flat_amount")
    words = f"{'inf' if end is None else end}: {_amount(tier, 'unit_amount') or '0'}"
    return words if flat in (None, "0") else f"{words} + {flat}"


def _amount(priced: Mapping[str, Any], name: str) -> str | None:
    """The exact amount, however it is written: as a whole number, as a decimal text, with trailing zeros."""
    found = priced.get(f"{name}_decimal")
    if found is None:
        found = priced.get(name)
    if found is None:
        return None
    return f"{Decimal(str(found)).normalize():f}"


def _package(transform: Mapping[str, Any] | None) -> str | None:
    return f"{transform['divide_by']}, rounded {transform['round']}" if transform else None


def _said(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(value) + "]"
    return "nothing" if value in (None, "") else str(value)
