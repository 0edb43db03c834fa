"""One price and one quantity to tiers: the five pricing models. Pure and exact; nothing is rounded here.

`included` units are free in every model; the borders of steps and packages are counted from there. A step takes what lies
above the border before it, up to and with its own (docs/rating.md).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Context, Decimal
from enum import StrEnum
from typing import NamedTuple

ZERO = Decimal(0)
# A quantity of 24 digits times a price of 24 has 48; the default context of 28 would round it.
EXACT = Context(prec=100)


class PriceModel(StrEnum):
    """How a price grows with its quantity."""

    INCLUDED = "included"
    PER_UNIT = "per_unit"
    GRADUATED = "graduated"
    VOLUME = "volume"
    PACKAGE = "package"


@dataclass(frozen=True, slots=True)
class PriceStep:
    """Units up to and with `up_to` (None: all above); `flat_price` is charged once when the step is reached. Major units."""

    up_to: Decimal | None
    unit_price: Decimal
    flat_price: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class UsagePrice:
    """What usage of one meter costs; with `match` (names and values), of some values of its dimensions.

    `unit_price` (major units, of a unit or of a package) None: nothing beyond `included` is sold. `maximum_minor` is the most
    that the line costs. `text` is the line's wording; empty: the meter's slug.
    """

    meter: str
    unit: str
    included: Decimal
    unit_price: Decimal | None
    model: PriceModel = PriceModel.INCLUDED
    steps: tuple[PriceStep, ...] = ()
    package_size: Decimal = Decimal(1)
    maximum_minor: int | None = None
    match: tuple[tuple[str, str], ...] = ()
    text: str = ""


class Tier(NamedTuple):
    """`quantity` units of the range (`start`, `end`] at `unit_price`, and `flat`; `amount` is exact, in major units, and
    always quantity x unit_price + flat. Whole packages stand in `flat`; so does what a line's maximum takes off (negative)."""

    start: Decimal
    end: Decimal | None
    quantity: Decimal
    unit_price: Decimal
    amount: Decimal
    flat: Decimal = ZERO


def usage_tiers(price: UsagePrice, quantity: Decimal) -> tuple[Tier, ...]:
    """The tiers that this quantity reaches, the included one first; at least one, also without usage.

    The line's maximum is not applied. Raises ValueError for a negative quantity.
    """
    if quantity < ZERO:
        raise ValueError(f"negative usage of {price.meter}: {quantity}")
    included = price.included
    if quantity <= included:
        if quantity or included or price.model in (PriceModel.INCLUDED, PriceModel.PACKAGE):
            return (Tier(ZERO, included, quantity, ZERO, ZERO),)
        return (_first(price),)
    sold = tuple(_SOLD[price.model](price, EXACT.subtract(quantity, included)))
    return (Tier(ZERO, included, included, ZERO, ZERO), *sold) if included else sold


def borders(price: UsagePrice) -> tuple[Decimal, ...]:
    """The quantities after which a unit costs something else, ascending; steps are counted from the included quantity."""
    found = [price.included]
    if price.model in _STEPPED:
        found += [price.included + step.up_to for step in price.steps[:-1] if step.up_to is not None]
    return tuple(found)


def price_faults(price: UsagePrice) -> tuple[str, ...]:
    """What is wrong with a price, in words for who publishes it; empty when it may be sold."""
    faults = []
    if price.included < 0 or price.package_size <= 0 or (price.unit_price or ZERO) < 0:
        faults.append("Prices and included quantities are 0 or more, packages larger than 0.")
    if price.model in (PriceModel.PER_UNIT, PriceModel.PACKAGE) and price.unit_price is None:
        faults.append("A price per unit or package is missing.")
    if price.model not in _STEPPED:
        return tuple([*faults, "Only graduated and volume prices have tiers."] if price.steps else faults)
    ends = [step.up_to for step in price.steps]
    finite = [end for end in ends if end is not None]
    if not ends or ends[-1] is not None or len(finite) != len(ends) - 1:
        faults.append("The last tier, and only the last, is open.")
    if any(low >= high for low, high in zip([ZERO, *finite], finite, strict=False)):
        faults.append("Each tier ends above the one before.")
    if any(step.unit_price < 0 or step.flat_price < 0 for step in price.steps):
        faults.append("Prices of tiers are 0 or more.")
    return tuple(faults)


def _first(price: UsagePrice) -> Tier:
    """The tier of no usage: where the first unit would be."""
    if price.model in _STEPPED and price.steps:
        step = price.steps[0]
        return Tier(ZERO, step.up_to if len(price.steps) > 1 else None, ZERO, step.unit_price, ZERO)
    return Tier(ZERO, None, ZERO, price.unit_price or ZERO, ZERO)


def _per_unit(price: UsagePrice, sold: Decimal) -> Iterator[Tier]:
    each = price.unit_price if price.unit_price is not None else ZERO
    yield Tier(price.included, None, sold, each, EXACT.multiply(sold, each))


def _graduated(price: UsagePrice, sold: Decimal) -> Iterator[Tier]:
    if not price.steps:
        yield Tier(price.included, None, sold, ZERO, ZERO)
        return
    start = ZERO
    for step in price.steps[:-1]:
        end = step.up_to
        if end is None or sold <= end:
            yield _step_tier(price.included, start, end, sold - start, step)
            return
        yield _step_tier(price.included, start, end, end - start, step)
        start = end
    # The last step is open, whatever it says: usage above it is never free by mistake.
    yield _step_tier(price.included, start, None, sold - start, price.steps[-1])


def _volume(price: UsagePrice, sold: Decimal) -> Iterator[Tier]:
    """All units at the price of the step that the quantity reaches."""
    if not price.steps:
        yield Tier(price.included, None, sold, ZERO, ZERO)
        return
    for step in price.steps[:-1]:
        if step.up_to is not None and sold <= step.up_to:
            yield _step_tier(price.included, ZERO, step.up_to, sold, step)
            return
    yield _step_tier(price.included, ZERO, None, sold, price.steps[-1])


def _step_tier(
    included: Decimal, start: Decimal, end: Decimal | None, units: Decimal, step: PriceStep
) -> Tier:
    amount = EXACT.multiply(units, step.unit_price)
    if step.flat_price:
        amount = EXACT.add(amount, step.flat_price)
    if included:
        start, end = start + included, end if end is None else end + included
    return Tier(start, end, units, step.unit_price, amount, step.flat_price)


def _package(price: UsagePrice, sold: Decimal) -> Iterator[Tier]:
    """A begun package is charged whole."""
    whole, rest = EXACT.divmod(sold, price.package_size)
    each = price.unit_price if price.unit_price is not None else ZERO
    amount = EXACT.multiply(whole + 1 if rest else whole, each)
    yield Tier(price.included, None, sold, ZERO, amount, amount)


_STEPPED = (PriceModel.GRADUATED, PriceModel.VOLUME)
_SOLD: dict[PriceModel, Callable[[UsagePrice, Decimal], Iterator[Tier]]] = {
    PriceModel.INCLUDED: _per_unit,
    PriceModel.PER_UNIT: _per_unit,
    PriceModel.GRADUATED: _graduated,
    PriceModel.VOLUME: _volume,
    PriceModel.PACKAGE: _package,
}
