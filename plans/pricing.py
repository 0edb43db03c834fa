"""Rating: usage totals and a plan version's prices to lines and cents. Pure: no clock, no database, no floats.

A line's amount is the exact sum of its tiers, rounded once, half up, to the currency's minor unit; the lines add up to
the total to the cent (DESIGN.md, section 5).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from core.money import to_minor

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class UsagePrice:
    """What usage of one meter costs. `unit_price` (major units a unit) None: nothing beyond `included` is sold."""

    meter: str
    unit: str
    included: Decimal
    unit_price: Decimal | None


@dataclass(frozen=True, slots=True)
class Terms:
    """The priced side of a plan version. `fee_minor` is per fee interval, minor currency units."""

    name: str
    currency: str
    fee_minor: int
    usage: Sequence[UsagePrice] = ()


@dataclass(frozen=True, slots=True)
class Tier:
    """`quantity` units of the range (`start`, `end`] at `unit_price`; `amount` is exact, in major units."""

    start: Decimal
    end: Decimal | None
    quantity: Decimal
    unit_price: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a statement. `meter` is empty for the fee; `amount_minor` is the tiers' sum, rounded once."""

    text: str
    meter: str
    unit: str
    quantity: Decimal
    amount_minor: int
    tiers: tuple[Tier, ...] = ()


@dataclass(frozen=True, slots=True)
class Rated:
    """The cost of one period: its lines and their sum, minor currency units."""

    currency: str
    lines: tuple[Line, ...]

    @property
    def total_minor(self) -> int:
        return sum(line.amount_minor for line in self.lines)


def rate_period(terms: Terms, usage: Mapping[str, Decimal], *, charge_fee: bool = True) -> Rated:
    """Lines for the fee and for each meter, in the terms' order.

    `usage` maps meter slugs to quantities in the meter's unit; a missing meter is 0. `charge_fee` is False in trials and
    in the later months of a yearly plan. Raises ValueError for negative quantities.
    """
    lines = [_fee_line(terms)] if charge_fee else []
    for price in terms.usage:
        lines.append(_usage_line(price, usage.get(price.meter, ZERO), terms.currency))
    return Rated(terms.currency, tuple(lines))


def usage_tiers(price: UsagePrice, quantity: Decimal) -> tuple[Tier, ...]:
    """Included quantity first, then overage; tiers without units are left out, but never all of them."""
    if quantity < 0:
        raise ValueError(f"negative usage of {price.meter}: {quantity}")
    within = min(quantity, price.included)
    tiers = [Tier(ZERO, price.included, within, ZERO, ZERO)]
    over = quantity - within
    if over > 0:
        each = price.unit_price if price.unit_price is not None else ZERO
        tiers.append(Tier(price.included, None, over, each, over * each))
    return tuple(tier for tier in tiers if tier.quantity) or tuple(tiers[:1])


def _fee_line(terms: Terms) -> Line:
    return Line(terms.name, "", "", Decimal(1), terms.fee_minor)


def _usage_line(price: UsagePrice, quantity: Decimal, currency: str) -> Line:
    tiers = usage_tiers(price, quantity)
    amount = sum((tier.amount for tier in tiers), ZERO)
    return Line(
        price.meter,
        price.meter,
        price.unit,
        quantity,
        to_minor(amount, currency),
        tiers,
    )
