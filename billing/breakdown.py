"""How a line's amount falls on the hours and calls that made it. Pure and exact: nothing is rounded, nothing is lost.

Quantity is laid on the tiers in the order of time. What an hour or a call costs in a tier is what the tier costs after it
minus what it cost before it, so that the parts add up to the tier whatever their order (docs/explain.md):

- included, per unit, graduated: a unit falls into the tier that it reaches; a flat price falls on who reaches the tier.
- volume: every sold unit at the price that the whole quantity reached in the end.
- package: a package is charged to who begins it.
- maximum of a line: taken off from those who came when it was reached.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

from core.money import to_major
from plans.pricing import usage_line
from plans.tiers import EXACT, ZERO, PriceModel, Tier, UsagePrice


class Share(NamedTuple):
    """A part of a tier: units, and their exact amount in major currency units."""

    quantity: Decimal
    amount: Decimal

    def __add__(self, other: object) -> "Share":
        if not isinstance(other, Share):
            return NotImplemented
        return Share(EXACT.add(self.quantity, other.quantity), EXACT.add(self.amount, other.amount))

    def __sub__(self, other: "Share") -> "Share":
        return Share(EXACT.subtract(self.quantity, other.quantity), EXACT.subtract(self.amount, other.amount))


NOTHING = Share(ZERO, ZERO)


@dataclass(frozen=True, slots=True)
class Breakdown:
    """One price, and the tiers that its quantity reached in the end, the maximum's last."""

    price: UsagePrice
    currency: str
    tiers: tuple[Tier, ...]

    @classmethod
    def of(cls, price: UsagePrice, quantity: Decimal, currency: str) -> "Breakdown":
        """Raises ValueError for a negative quantity."""
        return cls(price, currency, usage_line(price, quantity, currency).tiers)

    def up_to(self, quantity: Decimal) -> tuple[Share, ...]:
        """What the first `quantity` units come to in each tier; 0 or less is nothing."""
        shares: list[Share] = []
        for tier in self.tiers:
            if _takes_off(self.price, tier):
                shares.append(Share(ZERO, self._above_maximum(shares)))
            else:
                shares.append(self._share(tier, quantity))
        return tuple(shares)

    def between(self, before: Decimal, after: Decimal) -> tuple[Share, ...]:
        """What the units from `before` to `after` come to in each tier; after a correction downwards, negative."""
        if before == after:
            return (NOTHING,) * len(self.tiers)
        return tuple(high - low for high, low in zip(self.up_to(after), self.up_to(before), strict=True))

    def split(self, quantities: Sequence[Decimal]) -> list[tuple[Share, ...]]:
        """The shares of these quantities, one after the other. Where they add up to the line's quantity, their shares add
        up to its tiers."""
        reached = [ZERO]
        for quantity in quantities:
            reached.append(EXACT.add(reached[-1], quantity))
        costs = [self.up_to(quantity) for quantity in reached]
        return [
            tuple(high - low for high, low in zip(after, before, strict=True))
            for before, after in pairwise(costs)
        ]

    def _share(self, tier: Tier, quantity: Decimal) -> Share:
        end = quantity if tier.end is None else min(quantity, tier.end)
        units = max(EXACT.subtract(end, tier.start), ZERO)
        if not units:
            return NOTHING
        if self.price.model == PriceModel.PACKAGE and tier.start == self.price.included and tier.flat:
            whole, rest = EXACT.divmod(units, self.price.package_size)
            return Share(units, EXACT.multiply(whole + 1 if rest else whole, self.price.unit_price or ZERO))
        return Share(units, EXACT.add(EXACT.multiply(units, tier.unit_price), tier.flat))

    def _above_maximum(self, shares: Sequence[Share]) -> Decimal:
        total = ZERO
        for share in shares:
            total = EXACT.add(total, share.amount)
        most = to_major(self.price.maximum_minor or 0, self.currency)
        return min(EXACT.subtract(most, total), ZERO)


def _takes_off(price: UsagePrice, tier: Tier) -> bool:
    return price.maximum_minor is not None and tier.flat < ZERO and not tier.quantity


def add_shares(shares: Sequence[Share]) -> Share:
    """Their sum."""
    total = NOTHING
    for share in shares:
        total += share
    return total
