"""From the prices of a plan version to the integer tables that the doors hold usage against (plans/cap_table.py)."""

from collections.abc import Sequence
from decimal import Decimal

from plans.cap_table import MeterTable, PricedLine, compile_meter
from plans.models import PlanVersion, PriceComponent
from plans.pricing import UsagePrice, usage_tiers

ZERO = Decimal(0)


def price_tables(version: PlanVersion) -> tuple[MeterTable, ...]:
    """One table per meter that a cap can bound (sums and counts), in the order of their ids.

    Charges of other meters are not known before they happen: the statement's write-off bounds them (docs/caps.md).
    """
    groups: dict[int, list[PriceComponent]] = {}
    for component in sorted(version.components.all(), key=lambda c: (c.meter_id, c.pk)):
        if component.meter.is_additive:
            groups.setdefault(component.meter_id, []).append(component)
    return tuple(
        compile_meter(meter_id, group[0].meter.decimals, version.currency, [_line(c) for c in group])
        for meter_id, group in groups.items()
    )


def _line(component: PriceComponent) -> PricedLine:
    price = UsagePrice(component.meter.slug, component.meter.unit, component.included, component.unit_price)

    def cost(quantity: Decimal) -> Decimal:
        return sum((tier.amount for tier in usage_tiers(price, quantity)), ZERO)

    return PricedLine(
        cost, _borders(component), maximum_minor=component.maximum_minor, free=component.included
    )


def _borders(component: PriceComponent) -> Sequence[Decimal]:
    return [component.included]
