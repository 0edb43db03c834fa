"""Stripe's arithmetic of prices, written from its documentation and not from our code: an independent judge.

Rounding is "on the line item level"; whether each tier is a line of its own is told nowhere, so both are worked out.
"""

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

Price = dict[str, Any]


def stripe_amounts(price: Price, quantity: int) -> set[int]:
    """What Stripe may charge for this quantity, in the currency's smallest unit: one figure when it is certain."""
    parts = _parts(price, quantity)
    return {_rounded(sum(parts, Decimal(0))), sum(_rounded(part) for part in parts)}


def _parts(price: Price, quantity: int) -> list[Decimal]:
    if price["billing_scheme"] == "per_unit":
        transform = price.get("transform_quantity")
        if transform:
            whole, rest = divmod(quantity, transform["divide_by"])
            quantity = whole + (1 if rest and transform["round"] == "up" else 0)
        return [quantity * Decimal(price["unit_amount_decimal"])]
    if price["tiers_mode"] == "volume":
        tier = next(tier for tier in price["tiers"] if tier["up_to"] == "inf" or quantity <= tier["up_to"])
        return _tier_parts(tier, quantity)
    parts, below = [], 0
    for number, tier in enumerate(price["tiers"]):
        end = quantity if tier["up_to"] == "inf" else min(quantity, tier["up_to"])
        if end > below or number == 0:  # the first tier's flat amount is charged without usage, too
            parts += _tier_parts(tier, end - below)
        below = max(below, end)
    return parts


def _tier_parts(tier: Price, quantity: int) -> list[Decimal]:
    return [quantity * Decimal(tier["unit_amount_decimal"]), Decimal(tier.get("flat_amount_decimal", "0"))]


def _rounded(amount: Decimal) -> int:
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP))
