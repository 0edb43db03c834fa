"""What a call costs its owner, and where a plan sells below a multiple of it. The arithmetic is pure.

A call costs compute time, memory held while it computes, bytes sent and calls to third parties, each at the owner's price
(`CostPrices`). What a route takes stands in its `RouteCost`; where that leaves compute time or bytes open, they are as
measured: the caller brings the figures. 1 GB = 1,000 MB, 1 kB = 1,000 bytes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from core.money import format_money, format_price, format_quantity, to_minor
from plans.models import CostPrices, PlanVersion, PriceComponent, PricingModel, RouteCost
from plans.tiers import EXACT, ZERO

THOUSAND = Decimal(1000)
_SHOWN = Decimal("1E-9")


@dataclass(frozen=True, slots=True)
class MeasuredCall:
    """What a route's calls took on average."""

    compute_ms: Decimal = ZERO
    kb_out: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class CallCost:
    """The cost of one call in its parts, exact, in major units of the currency of the prices."""

    compute: Decimal
    memory: Decimal
    bytes_out: Decimal
    third_party: Decimal

    @property
    def total(self) -> Decimal:
        return self.compute + self.memory + self.bytes_out + self.third_party


def call_cost(takes: RouteCost, prices: CostPrices, measured: MeasuredCall = MeasuredCall()) -> CallCost:
    """What one call to a route costs. `measured` stands in where the route's cost leaves time or bytes open."""
    milliseconds = takes.compute_ms if takes.compute_ms is not None else measured.compute_ms
    kilobytes = takes.kb_out if takes.kb_out is not None else measured.kb_out
    gb_seconds = EXACT.multiply(takes.memory_mb / THOUSAND, milliseconds / THOUSAND)
    return CallCost(
        compute=EXACT.multiply(milliseconds, prices.per_compute_ms),
        memory=EXACT.multiply(gb_seconds, prices.per_memory_gb_second),
        bytes_out=EXACT.multiply(kilobytes, prices.per_kb_out),
        third_party=EXACT.multiply(takes.third_party_calls, prices.per_third_party_call),
    )


@dataclass(frozen=True, slots=True)
class UnitCost:
    """What one unit of a meter costs to serve: on its dearest route, and on the average of its routes."""

    dearest: Decimal
    average: Decimal
    dearest_route: str


def unit_costs(
    takes: Iterable[RouteCost], prices: CostPrices, measured: Mapping[int, MeasuredCall] | None = None
) -> dict[int, UnitCost]:
    """By meter id. `measured` by route id. Routes that count nothing per call (units reported by the API) are left out."""
    found: dict[int, list[tuple[Decimal, str]]] = {}
    for row in takes:
        if row.route.units <= 0:
            continue
        cost = call_cost(row, prices, (measured or {}).get(row.route.pk, MeasuredCall())).total
        found.setdefault(row.route.meter_id, []).append((cost / row.route.units, str(row.route)))
    return {meter: _unit_cost(costs) for meter, costs in found.items()}


def _unit_cost(costs: list[tuple[Decimal, str]]) -> UnitCost:
    dearest, route = max(costs)
    return UnitCost(dearest, sum((cost for cost, _ in costs), ZERO) / len(costs), route)


def cheapest_unit(component: PriceComponent) -> Decimal | None:
    """The lowest price at which one more unit is sold; None where none is sold.

    Free tiers at the beginning are a quantity that is included; a free one after a priced one is sold at 0.
    """
    if component.model in (PricingModel.GRADUATED, PricingModel.VOLUME):
        prices = [
            tier.unit_price
            for tier in sorted(component.tiers.all(), key=lambda t: (t.up_to is None, t.up_to or ZERO))
        ]
        while len(prices) > 1 and prices[0] == 0:
            prices.pop(0)
        return min(prices, default=None)
    if component.unit_price is None:
        return None
    is_package = component.model == PricingModel.PACKAGE
    return component.unit_price / component.package_size if is_package else component.unit_price


def free_units(component: PriceComponent) -> Decimal:
    """What the fee pays for: the included quantity and the free tiers that follow it."""
    free = component.included
    if component.model in (PricingModel.GRADUATED, PricingModel.VOLUME):
        tiers = sorted(component.tiers.all(), key=lambda t: (t.up_to is None, t.up_to or ZERO))
        for tier in tiers:
            if tier.unit_price or tier.flat_price or tier.up_to is None:
                break
            free = component.included + tier.up_to
    return free


def margin_warnings(
    version: PlanVersion, costs: Mapping[int, UnitCost], *, factor: Decimal | int
) -> list[str]:
    """Where this version sells below `factor` times its cost baseline, in words; `costs` by meter id, in its currency.

    Each price's cheapest unit is held against the dearest route, the fee against all that is included, at average cost.
    """
    components = [c for c in version.components.all() if c.meter_id in costs]
    words = [
        text for c in components if (text := _price_warning(c, costs[c.meter_id], version.currency, factor))
    ]
    fee = _fee_warning(version, components, costs, factor)
    return [*words, fee] if fee else words


def _price_warning(component: PriceComponent, cost: UnitCost, currency: str, factor: Decimal | int) -> str:
    price = cheapest_unit(component)
    if price is None or price >= cost.dearest * factor:
        return ""
    return (
        f"{component.meter.name}: a {component.meter.unit} is sold for as little as {_rate(price, currency)} and costs "
        f"{_rate(cost.dearest, currency)} on {cost.dearest_route} ({_ratio(price, cost.dearest)}; wanted {factor} times)."
    )


def _fee_warning(
    version: PlanVersion,
    components: list[PriceComponent],
    costs: Mapping[int, UnitCost],
    factor: Decimal | int,
) -> str:
    """The fee of a month against what is included; a free plan gives it away, which is no news."""
    spent = sum((free_units(c) * costs[c.meter_id].average for c in components), ZERO)
    fee = max(version.fee_minor // version.fee_months, version.minimum_minor)
    cost_minor = to_minor(spent, version.currency)
    if not fee or cost_minor * factor <= fee:
        return ""
    included = ", ".join(
        f"{format_quantity(free_units(c))} {c.meter.unit}s" for c in components if free_units(c)
    )
    return (
        f"What is included ({included}) costs {format_money(cost_minor, version.currency)} a month to serve and is sold for "
        f"{format_money(fee, version.currency)} ({_ratio(Decimal(fee), Decimal(cost_minor))}; wanted {factor} times)."
    )


def _rate(price: Decimal, currency: str) -> str:
    return format_price(price.quantize(_SHOWN) if price < 1 else price.quantize(Decimal("0.0001")), currency)


def _ratio(price: Decimal, cost: Decimal) -> str:
    return f"{price / cost:.1f} times"


def find_cost_prices(currency: str, *, at: datetime) -> CostPrices | None:
    """The owner's prices of this moment in this currency."""
    return CostPrices.objects.filter(currency=currency, valid_from__lte=at).order_by("-valid_from").first()


def version_warnings(
    version: PlanVersion,
    *,
    factor: Decimal | int,
    at: datetime,
    measured: Mapping[int, MeasuredCall] | None = None,
) -> list[str]:
    """`margin_warnings` by the costs of this moment; nothing where no cost prices are known in the version's currency."""
    prices = find_cost_prices(version.currency, at=at)
    if prices is None:
        return []
    takes = RouteCost.objects.filter(route__is_active=True).select_related("route__product")
    return margin_warnings(version, unit_costs(takes, prices, measured), factor=factor)
