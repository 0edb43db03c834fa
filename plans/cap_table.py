"""What the admission script knows of prices: integers, compiled from a plan version, that give the cost of a period's usage.

Amounts here are **grains**: 10,000,000 make one minor unit, so that of dollars and euros one is 0.000000001. A meter's table
is a list of segments; above `start` smallest units, usage costs `base` and `num / den` for each further unit (`den` below 0:
`num` for each begun package of `-den` units). Prices finer than that are rounded up, never down.

The cost of a period is the larger of two sums over its lines: exact amounts, and amounts rounded half up as statements do.
So neither the statement nor the usage at its exact price can pass a cap, and nothing of it is lost to rounding
(docs/caps.md has the proof and the figures). Usage that prices keep apart by dimensions is counted together at the door and
taken at the dearest price: the cap then binds early, never late.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from fractions import Fraction
from math import ceil, floor

from core.money import exponent
from plans.tiers import EXACT, ZERO, PriceModel, UsagePrice, borders, usage_tiers

GRAINS = 10_000_000  # of a minor unit
LARGEST = 2**53 - 1  # beyond it a Lua number is not exact: costs stop there, and a cap is below it
LARGEST_CAP_MINOR = LARGEST // GRAINS


@dataclass(frozen=True, slots=True)
class Segment:
    start: int
    base: int
    num: int
    den: int

    def cost(self, units: int) -> int:
        over = units - self.start
        if self.den < 0:
            return min(LARGEST, self.base - over // self.den * self.num)
        return min(LARGEST, self.base - (-over * self.num // self.den))


@dataclass(frozen=True, slots=True)
class MeterTable:
    """The cost of one meter's usage in `lines` lines of a statement, none of which rounds up by more than half a minor unit."""

    meter_id: int
    segments: tuple[Segment, ...]
    maximum: int = LARGEST
    lines: int = 1

    def exact(self, units: int) -> int:
        """Grains for so many smallest units: at least what rating says, and the same where prices are whole grains."""
        cost = 0
        for segment in self.segments:
            if segment.start >= units:
                break
            cost = segment.cost(units)
        return min(cost, self.maximum)

    def rounded(self, units: int) -> int:
        """The same as statements round it: at least the sum of its lines."""
        cost = self.exact(units)
        return (cost + self.lines * GRAINS // 2) // GRAINS * GRAINS if cost else 0


@dataclass(frozen=True, slots=True)
class SpendLimit:
    """A spend cap with the prices it is held against. `packed` is what the scripts read
    (metering/scripts/spend.lua), `fields` names the meters' counters in the same order."""

    cap_minor: int
    tables: tuple[MeterTable, ...]
    packed: bytes = field(init=False, repr=False)
    fields: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.cap_minor <= LARGEST_CAP_MINOR:
            raise ValueError(f"a cap is 0 to {LARGEST_CAP_MINOR} minor units")
        numbers = [self.cap_minor * GRAINS]
        for table in self.tables:
            numbers += [table.lines, table.maximum, len(table.segments)]
            for segment in table.segments:
                numbers += [segment.start, segment.base, segment.num, segment.den]
        object.__setattr__(self, "packed", struct.pack(f">{len(numbers)}d", *numbers))
        names = [name for t in self.tables for name in (f"{t.meter_id}", f"r{t.meter_id}")]
        object.__setattr__(self, "fields", tuple(names))

    def is_passed(self, counts: Mapping[int, int]) -> bool:
        """Whether usage (meter id to smallest units) costs more than the cap."""
        return spent(self.tables, counts) > self.cap_minor * GRAINS


def spent(tables: Sequence[MeterTable], counts: Mapping[int, int]) -> int:
    """Grains that this usage costs."""
    exact = sum(table.exact(counts.get(table.meter_id, 0)) for table in tables)
    rounded = sum(table.rounded(counts.get(table.meter_id, 0)) for table in tables)
    return max(exact, rounded)


def compile_meter(meter_id: int, decimals: int, currency: str, prices: Sequence[UsagePrice]) -> MeterTable:
    """The table of all prices of one meter: exact for one, an upper bound for several (by dimension)."""
    with localcontext(EXACT):
        scale = _Scale(decimals, exponent(currency))
        segments = scale.segments(prices[0]) if len(prices) == 1 else scale.dearest(prices)
    maxima = [price.maximum_minor for price in prices if price.maximum_minor is not None]
    maximum = sum(maxima) * GRAINS if len(maxima) == len(prices) else LARGEST
    return MeterTable(meter_id, tuple(segments), min(maximum, LARGEST), len(prices))


@dataclass(frozen=True, slots=True)
class _Scale:
    """From a meter's unit and the currency's major unit to smallest units and grains."""

    decimals: int
    exponent: int

    def units(self, quantity: Decimal) -> Fraction:
        return Fraction(quantity.scaleb(self.decimals))

    def grains(self, price: UsagePrice, units: int) -> Fraction:
        """The exact cost of so many smallest units, before rounding and without the line's maximum."""
        tiers = usage_tiers(price, Decimal(units).scaleb(-self.decimals))
        return Fraction(sum((tier.amount for tier in tiers), ZERO).scaleb(self.exponent)) * GRAINS

    def segments(self, price: UsagePrice) -> list[Segment]:
        """The line's segments; where its price falls with the quantity, at the highest cost of any smaller one."""
        firsts = sorted({floor(self.units(border)) + 1 for border in (ZERO, *borders(price))})
        found: list[Segment] = []
        highest = Fraction(0)
        for first, following in zip(firsts, [*firsts[1:], None], strict=True):
            begin = self.grains(price, first)
            if price.model == PriceModel.PACKAGE:
                found.append(self._packages(price, first, begin))
                continue
            last = following - 1 if following is not None else None
            slope = self.grains(price, first + 1) - begin if last != first else Fraction(0)
            found += _rising(first, last, begin, slope, highest)
            end = begin + slope * (last - first) if last is not None else begin
            highest = max(highest, end)
        return found

    def _packages(self, price: UsagePrice, first: int, begin: Fraction) -> Segment:
        size = self.units(price.package_size)
        if begin == 0:
            return Segment(first - 1, 0, 0, 1)
        step = max(1, floor(size))  # a size between two units is taken smaller: more packages, never fewer
        return Segment(first - 1, 0, _up(begin), -step)

    def dearest(self, prices: Sequence[UsagePrice]) -> list[Segment]:
        """An upper bound for any split of the quantity over the lines: all jumps at once, then the steepest price."""
        free = min(floor(self.units(price.included)) for price in prices)
        jumps, steepest = Fraction(0), Fraction(0)
        for price in prices:
            jump, slope = self._bound(price)
            jumps, steepest = jumps + jump, max(steepest, slope)
        num, den = _ratio(steepest)
        return [Segment(free, _up(jumps), num, den)]

    def _bound(self, price: UsagePrice) -> tuple[Fraction, Fraction]:
        """Jump and slope of a straight line that is nowhere below this one's cost above its free units."""
        free = floor(self.units(price.included))
        pieces = [piece for piece in self.segments(price) if piece.base or piece.num]
        steepest = max((Fraction(s.num, abs(s.den)) for s in pieces), default=Fraction(0))
        begun = [s.base + (s.num if s.den < 0 else 0) - steepest * (s.start - free) for s in pieces]
        return max([Fraction(0), *begun]), steepest


def _rising(
    first: int, last: int | None, begin: Fraction, slope: Fraction, highest: Fraction
) -> list[Segment]:
    """A segment, with a level stretch before it where it begins below what a smaller quantity cost."""
    num, den = _ratio(slope)
    if begin >= highest:
        return [Segment(first - 1, _up(begin - slope), num, den)]
    level = Segment(first - 1, _up(highest), 0, 1)
    if slope == 0:
        return [level]
    crossing = first + ceil((highest - begin) / slope)
    if last is not None and crossing > last:
        return [level]
    return [level, Segment(crossing - 1, _up(begin + slope * (crossing - 1 - first)), num, den)]


def _ratio(slope: Fraction) -> tuple[int, int]:
    """The slope as num / den whose product Lua still counts exactly; rounded up where it has more digits than that."""
    num, den = slope.numerator, slope.denominator
    while den > 1 and num * den > LARGEST:
        den = max(1, den // 10)
        num = ceil(slope * den)
    return min(num, LARGEST), den


def _up(grains: Fraction) -> int:
    return min(LARGEST, ceil(grains))
