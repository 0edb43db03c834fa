"""What has to be right before a plan version goes on sale: in words, each fault by itself.

The doors count whole smallest units and prices in whole grains under 2^53 (ENGINE.md, section 2); quotas bind only meters
that can be bounded before a call happens (section 4); rating leaves no usage without a price.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal

from core.currencies import CURRENCIES
from core.money import format_money
from plans.cap_table import LARGEST, LARGEST_CAP_MINOR
from plans.door import LARGEST_UNITS, smallest_units
from plans.limit_checks import limit_faults
from plans.models import CAPPABLE, PlanVersion, PriceComponent, PricingModel
from plans.price_tables import price_tables
from plans.pricing import borders, price_faults, usage_line
from plans.queries import usage_price

_STEPPED = (PricingModel.GRADUATED, PricingModel.VOLUME)


def version_faults(version: PlanVersion) -> tuple[str, ...]:
    """What keeps this version from being published; empty when it may be."""
    components = list(version.components.select_related("meter").prefetch_related("tiers"))
    faults = list(_currency_faults(version))
    for component in components:
        name = _named(component)
        faults += [f"{name}: {fault}" for check in _CHECKS for fault in check(component)]
    faults += _coverage_faults(components)
    faults += limit_faults(version)
    return tuple(faults or _size_faults(version, components))  # sizes need prices that can be worked out


def _named(component: PriceComponent) -> str:
    values = ", ".join(f"{name} {value}" for name, value in sorted(component.match.items()))
    return f"{component.meter.name} ({values})" if values else component.meter.name


def _currency_faults(version: PlanVersion) -> Iterator[str]:
    if version.currency not in CURRENCIES:
        yield f"{version.currency or 'Nothing'} is not a currency of ISO 4217."


def _price(component: PriceComponent) -> Iterator[str]:
    yield from price_faults(usage_price(component))
    if component.package_size != 1 and component.model != PricingModel.PACKAGE:
        yield "Only package prices have a package size."
    if component.model in _STEPPED and component.unit_price is not None:
        yield "Graduated and volume prices have their prices in the tiers, not per unit."


def _countable(component: PriceComponent) -> Iterator[str]:
    """Only what the doors count has to be whole: a time-weighted sum ends in any fraction anyway."""
    if component.meter.aggregation not in CAPPABLE:
        return
    named = [
        ("Included quantity", component.included),
        ("Quota", component.quota),
        ("Package size", component.package_size),
    ]
    named += [("Tier end", tier.up_to) for tier in component.tiers.all()]
    for name, quantity in named:
        if quantity is not None and (fault := _count_fault(quantity, component.meter.decimals)):
            yield f"{name} {quantity.normalize():f} {fault}"


def _count_fault(quantity: Decimal, decimals: int) -> str:
    try:
        units = smallest_units(quantity, decimals)
    except ValueError:
        return f"has more decimals than the meter counts ({decimals})."
    return "is more than can be counted." if units > LARGEST_UNITS else ""


def _bounded(component: PriceComponent) -> Iterator[str]:
    meter = component.meter
    if component.hard_quota is not None and not meter.is_additive:  # a maximum is only known afterwards
        yield (
            f"A hard quota needs a meter that sums or counts; this one is {meter.get_aggregation_display().lower()}. "
            "Give it a price (0 is free) and set an alert."
        )


def _known_names(component: PriceComponent) -> Iterator[str]:
    unknown = sorted(set(component.match) - set(component.meter.dimensions))
    if unknown:
        yield f"The meter has no dimension {', '.join(unknown)}."
    if any(not isinstance(value, str) for value in component.match.values()):
        yield "Values of dimensions are texts."


def _sold(component: PriceComponent) -> Iterator[str]:
    if component.meter.archived_at is not None:
        yield "The meter is archived."


_CHECKS: tuple[Callable[[PriceComponent], Iterator[str]], ...] = (
    _price,
    _countable,
    _bounded,
    _known_names,
    _sold,
)


def _coverage_faults(components: list[PriceComponent]) -> Iterator[str]:
    """Over all prices of a meter: one that takes the rest, and quotas on all or none."""
    meters = {component.meter_id: component.meter for component in components}
    for meter in meters.values():
        prices = [component for component in components if component.meter_id == meter.pk]
        if all(price.match for price in prices):
            yield (
                f"{meter.name}: usage that matches none of its prices has none. Add a price without a match; 0 per unit if it is free."
            )
        if len({price.hard_quota is None for price in prices}) > 1:
            yield f"{meter.name}: the door counts all values of a meter together. Give each of its prices a hard quota, or none."


def _size_faults(version: PlanVersion, components: list[PriceComponent]) -> Iterator[str]:
    """The door adds up costs as whole numbers that stay exact to 2^53 grains."""
    most = format_money(LARGEST_CAP_MINOR, version.currency)
    usage = sum(_largest_minor(component, version.currency) for component in components)
    if max(version.fee_minor, version.minimum_minor, usage) > LARGEST_CAP_MINOR:
        yield f"Its amounts get larger than the door can count: {most} at most."
    elif any(max(s.base, s.num) >= LARGEST for table in price_tables(version) for s in table.segments):
        yield f"A price is larger than the door can count: {most} at most."


def _largest_minor(component: PriceComponent, currency: str) -> int:
    """What is known of the most that one price's line costs: its maximum, or its cost at the last border or the quota."""
    if component.maximum_minor is not None:
        return component.maximum_minor
    price = usage_price(component)
    quantity = max(*borders(price), component.quota or price.included)
    return usage_line(price, quantity, currency).amount_minor
