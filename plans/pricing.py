"""Rating: usage totals and a plan version's prices to lines and cents. Pure: no clock, no database, no floats.

A line's amount is the exact sum of its tiers, rounded once, half up, to the currency's minor unit; the lines add up to
the total to the cent (DESIGN.md, section 5; rules and sources: docs/rating.md). What one price costs: plans/tiers.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, localcontext
from typing import NamedTuple

from core.money import to_major, to_minor
from plans.dimensions import in_words, match_text, values_of
from plans.tiers import (
    EXACT,
    ZERO,
    PriceModel,
    PriceStep,
    Tier,
    UsagePrice,
    borders,
    price_faults,
    usage_tiers,
)

__all__ = [
    "Line",
    "Measured",
    "PriceModel",
    "PriceStep",
    "Rated",
    "Terms",
    "Tier",
    "Usage",
    "UsagePrice",
    "borders",
    "price_faults",
    "rate_period",
    "trial_terms",
    "usage_line",
    "usage_tiers",
]

Measured = tuple[str, str]  # meter slug, dimension text ('' = none)
Usage = Mapping[Measured, Decimal]

_ONE = Decimal(1)
_MEMO_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Terms:
    """The priced side of a plan version. `fee_minor` is per fee interval, `minimum_minor` per usage month; minor units."""

    name: str
    currency: str
    fee_minor: int
    usage: tuple[UsagePrice, ...] = ()
    minimum_minor: int = 0
    # Which price takes a measured quantity: found once, kept, because runs rate many customers on the same terms.
    takers: dict[Measured, int | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    def taker(self, measured: Measured) -> int | None:
        """Position of the most specific price that matches (of equally specific ones the first), or None."""
        try:
            return self.takers[measured]
        except KeyError:
            if len(self.takers) >= _MEMO_LIMIT:
                self.takers.clear()
            return self.takers.setdefault(measured, self._find_taker(*measured))

    def _find_taker(self, meter: str, dimension: str) -> int | None:
        values = values_of(dimension)
        best: int | None = None
        for number, price in enumerate(self.usage):
            if price.meter != meter or any(values.get(name) != value for name, value in price.match):
                continue
            if best is None or len(price.match) > len(self.usage[best].match):
                best = number
        return best


class Line(NamedTuple):
    """One line of a statement. `meter` is empty for fee and minimum; `amount_minor` is the tiers' sum, rounded once.
    `kind` as of billing's LineKind; `dimension` is the text of the values that its price asks for."""

    text: str
    meter: str
    unit: str
    quantity: Decimal
    amount_minor: int
    tiers: tuple[Tier, ...] = ()
    kind: str = "usage"
    dimension: str = ""


@dataclass(frozen=True, slots=True)
class Rated:
    """The cost of one period: its lines and their sum, minor currency units."""

    currency: str
    lines: tuple[Line, ...]

    @property
    def total_minor(self) -> int:
        return sum(line.amount_minor for line in self.lines)


def rate_period(terms: Terms, usage: Usage, *, charge_fee: bool = True, charge_minimum: bool = True) -> Rated:
    """Lines for the fee and for each price in the terms' order, for usage that no price matches (at nothing), and the
    true-up to the minimum.

    `usage` holds quantities in the meters' units; what is missing is 0, and meters without any price are left out.
    `charge_fee` is False in trials and in the later months of a yearly plan, `charge_minimum` in trials. Raises ValueError
    for negative quantities.
    """
    with localcontext(EXACT):
        quantities, unpriced = _allotted(terms, usage)
        lines = [Line(terms.name, "", "", _ONE, terms.fee_minor, (), "fee")] if charge_fee else []
        spent = 0
        for price, quantity in zip(terms.usage, quantities, strict=True):
            line = usage_line(price, quantity, terms.currency)
            spent += line.amount_minor
            lines.append(line)
        lines += unpriced
        if charge_minimum and spent < terms.minimum_minor:
            lines.append(_true_up(terms, spent))
    return Rated(terms.currency, tuple(lines))


def usage_line(price: UsagePrice, quantity: Decimal, currency: str) -> Line:
    """The line of one price; its maximum is one more tier that takes off what is above it, so that tiers add up."""
    tiers = usage_tiers(price, quantity)
    amount = tiers[0].amount
    for tier in tiers[1:]:
        amount = EXACT.add(amount, tier.amount)
    if price.maximum_minor is not None:
        above = EXACT.subtract(to_major(price.maximum_minor, currency), amount)
        if above < ZERO:
            tiers = (*tiers, Tier(ZERO, None, ZERO, ZERO, above, above))
            amount = EXACT.add(amount, above)
    minor = to_minor(amount, currency) if amount else 0
    if not price.match:
        return Line(price.text or price.meter, price.meter, price.unit, quantity, minor, tiers)
    dimension = match_text(price.match)
    text = price.text or f"{price.meter} ({in_words(dimension)})"
    return Line(text, price.meter, price.unit, quantity, minor, tiers, "usage", dimension)


def trial_terms(terms: Terms) -> Terms:
    """What a trial costs: nothing. Only the included quantities are sold; what was reported above is written off."""
    free = tuple(
        replace(price, model=PriceModel.INCLUDED, unit_price=None, steps=(), maximum_minor=None)
        for price in terms.usage
    )
    return replace(terms, fee_minor=0, minimum_minor=0, usage=free)


def _allotted(terms: Terms, usage: Usage) -> tuple[list[Decimal], list[Line]]:
    """Quantity per price, and the lines of what no price of its meter matches."""
    quantities = [ZERO] * len(terms.usage)
    unpriced = []
    for measured, quantity in usage.items():
        taker = terms.taker(measured)
        if taker is not None:
            quantities[taker] += quantity
        elif quantity:
            unpriced += _unpriced(terms, measured, quantity)
    return quantities, unpriced


def _unpriced(terms: Terms, measured: Measured, quantity: Decimal) -> list[Line]:
    """Publishing refuses such prices; should they occur, the usage is shown and costs nothing."""
    meter, dimension = measured
    unit = next((price.unit for price in terms.usage if price.meter == meter), None)
    if unit is None:
        return []
    if quantity < ZERO:
        raise ValueError(f"negative usage of {meter}: {quantity}")
    text = f"{meter} ({in_words(dimension) or 'no dimension'}): no price, not charged"
    return [
        Line(text, meter, unit, quantity, 0, (Tier(ZERO, None, quantity, ZERO, ZERO),), "usage", dimension)
    ]


def _true_up(terms: Terms, spent: int) -> Line:
    missing = terms.minimum_minor - spent
    amount = to_major(missing, terms.currency)
    tier = Tier(ZERO, None, ZERO, ZERO, amount, amount)
    return Line("Minimum spend", "", "", _ONE, missing, (tier,), "minimum")
