"""Pure: what a quantity costs under a price, and how Stripe writes it. Amounts are whole smallest units of the currency.

Rounding: each tier, flat fee or unit line is rounded half up by itself, as the documentation describes for
`unit_amount_decimal`; sums are never rounded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from dateutil.relativedelta import relativedelta

_ZERO_DECIMAL = set("bif clp djf gnf jpy kmf krw mga pyg rwf ugx vnd vuv xaf xof xpf".split())  # noqa: SIM905
_THREE_DECIMAL = {"bhd", "jod", "kwd", "omr", "tnd"}
_SIGNS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥", "cad": "CA$", "aud": "A$", "inr": "₹"}


@dataclass(frozen=True)
class Charge:
    """One line's worth. `unit` is the decimal text of the price of one unit; None for a tier's flat fee."""

    quantity: int
    amount: int
    unit: str | None
    words: str


def half_up(value: Decimal) -> int:
    return int(value.quantize(Decimal(1), ROUND_HALF_UP))


def exponent(currency: str) -> int:
    return 0 if currency in _ZERO_DECIMAL else 3 if currency in _THREE_DECIMAL else 2


def money(amount: int | str | Decimal, currency: str) -> str:
    """`$0.001`, `-$3.50`, `¥500`, `CHF 1.00`: never fewer decimals than the currency has, more when they are needed."""
    places = exponent(currency)
    value = Decimal(amount).scaleb(-places)
    digits = f"{abs(value).normalize():,f}"
    whole, _, fraction = digits.partition(".")
    text = f"{whole}.{fraction.ljust(places, '0')}" if places or fraction else whole
    sign = _SIGNS.get(currency, f"{currency.upper()} ")
    return f"{'-' if value < 0 else ''}{sign}{text}"


def every(recurring: dict[str, Any] | None) -> str:
    if not recurring:
        return ""
    count, interval = recurring["interval_count"], recurring["interval"]
    return f" / {interval}" if count == 1 else f" / every {count} {interval}s"


def charges(price: dict[str, Any], quantity: int) -> list[Charge]:
    """The lines for `quantity` of a stored price. Negative usage counts as none."""
    quantity = max(quantity, 0)
    if price["billing_scheme"] == "tiered":
        tiers = _graduated if price["tiers_mode"] == "graduated" else _volume
        return list(tiers(price, quantity))
    unit, currency, cycle = price["unit_amount_decimal"], price["currency"], every(price["recurring"])
    transform = price["transform_quantity"]
    if not transform:
        return [Charge(quantity, _times(unit, quantity), unit, f"at {money(unit, currency)}{cycle}")]
    size = int(transform["divide_by"])
    packages = -(-quantity // size) if transform["round"] == "up" else quantity // size
    words = f"at {money(unit, currency)} per {size:,}{cycle}"
    return [Charge(quantity, _times(unit, packages), unit, words)]


def total(price: dict[str, Any], quantity: int) -> int:
    return sum(each.amount for each in charges(price, quantity))


def _times(unit: str, quantity: int) -> int:
    return half_up(Decimal(unit) * quantity)


def _graduated(price: dict[str, Any], quantity: int) -> Iterator[Charge]:
    """Each tier's part at its own price. The first tier has a line even when nothing was used."""
    below = 0
    for number, tier in enumerate(price["_tiers"], 1):
        upper = quantity if tier["up_to"] is None else min(quantity, tier["up_to"])
        part = max(upper - below, 0)
        if part or number == 1:
            yield from _tier_lines(price, tier, number, part)
        below = tier["up_to"] or quantity
        if below >= quantity:
            return


def _volume(price: dict[str, Any], quantity: int) -> Iterator[Charge]:
    """All of it at the price of the tier that the quantity reaches."""
    for number, tier in enumerate(price["_tiers"], 1):
        if tier["up_to"] is None or quantity <= tier["up_to"]:
            yield from _tier_lines(price, tier, number, quantity)
            return


def _tier_lines(price: dict[str, Any], tier: dict[str, Any], number: int, part: int) -> Iterator[Charge]:
    currency, cycle = price["currency"], every(price["recurring"])
    unit = tier["unit_amount_decimal"] or "0"
    yield Charge(part, _times(unit, part), unit, f"Tier {number} at {money(unit, currency)}{cycle}")
    if tier["flat_amount_decimal"] and Decimal(tier["flat_amount_decimal"]):
        flat = tier["flat_amount_decimal"]
        yield Charge(
            0, half_up(Decimal(flat)), None, f"Tier {number} flat fee of {money(flat, currency)}{cycle}"
        )


def share(amount: int, part: int, whole: int) -> int:
    """`amount` x part / whole, rounded half away from zero: a proration by seconds."""
    return half_up(Decimal(amount) * part / whole) if whole else 0


def period_after(anchor: int, recurring: dict[str, Any], at: int) -> tuple[int, int]:
    """The period that holds `at`: whole intervals counted from the anchor, so that the 31st comes back after February."""
    start = datetime.fromtimestamp(anchor, UTC)
    unit, count = f"{recurring['interval']}s", recurring["interval_count"]
    moment = datetime.fromtimestamp(at, UTC)
    steps = _guess(start, moment, recurring)
    while start + relativedelta(**{unit: steps * count}) > moment:
        steps -= 1
    while start + relativedelta(**{unit: (steps + 1) * count}) <= moment:
        steps += 1
    bounds = (start + relativedelta(**{unit: each * count}) for each in (steps, steps + 1))
    first, last = (int(each.timestamp()) for each in bounds)
    return first, last


def _guess(start: datetime, moment: datetime, recurring: dict[str, Any]) -> int:
    days = {"day": 1, "week": 7, "month": 30, "year": 365}[recurring["interval"]] * recurring[
        "interval_count"
    ]
    return (moment - start).days // int(days)


def day_text(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%d %b %Y")
