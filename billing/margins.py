"""What calls cost their owner beside what they brought: by plan, customer and route. Pure.

Costs are exact decimals in major units, revenue whole minor units. What is shared over routes is shared without rest, so
that the parts of every table add up to the whole.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from core.money import to_major, to_minor
from plans.cost_baselines import CallCost
from plans.tiers import EXACT, ZERO

Revenue = Mapping[
    tuple[int, int, int], int
]  # organization, plan, meter (0: fees and all else) -> minor units


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls by who pays for them. `uncharged`: live calls without a charge, as errors of the upstream; `test`: test mode."""

    charged: int = 0
    uncharged: int = 0
    test: int = 0

    @property
    def all(self) -> int:
        return self.charged + self.uncharged + self.test

    @property
    def free(self) -> int:
        return self.uncharged + self.test

    def __add__(self, other: "Calls") -> "Calls":
        return Calls(self.charged + other.charged, self.uncharged + other.uncharged, self.test + other.test)


@dataclass(frozen=True, slots=True)
class Margin:
    """Cost beside revenue. `free_cost` is the part of `cost` that calls without a charge had. Major units, exact."""

    currency: str
    calls: Calls = Calls()
    cost: Decimal = ZERO
    free_cost: Decimal = ZERO
    revenue_minor: int = 0

    @property
    def cost_minor(self) -> int:
        return to_minor(self.cost, self.currency)

    @property
    def free_cost_minor(self) -> int:
        return to_minor(self.free_cost, self.currency)

    @property
    def revenue(self) -> Decimal:
        return to_major(self.revenue_minor, self.currency)

    @property
    def margin(self) -> Decimal:
        return EXACT.subtract(self.revenue, self.cost)

    @property
    def margin_minor(self) -> int:
        """As the rounded figures beside it say: revenue less the cost that is shown."""
        return self.revenue_minor - self.cost_minor

    @property
    def rate(self) -> Decimal | None:
        """Margin as a part of revenue; None where there is no revenue."""
        return self.margin / self.revenue if self.revenue_minor > 0 else None

    def is_thin(self, factor: Decimal | int) -> bool:
        """Whether the revenue is less than so many times the cost."""
        return self.cost > 0 and self.revenue < EXACT.multiply(self.cost, Decimal(factor))

    def __add__(self, other: "Margin") -> "Margin":
        return Margin(
            self.currency,
            self.calls + other.calls,
            EXACT.add(self.cost, other.cost),
            EXACT.add(self.free_cost, other.free_cost),
            self.revenue_minor + other.revenue_minor,
        )


@dataclass(frozen=True, slots=True)
class CustomerCalls:
    """Calls of one customer on one plan, with what they cost."""

    organization_id: int
    plan_id: int
    calls: Calls
    cost: Decimal
    free_cost: Decimal


@dataclass(frozen=True, slots=True)
class RouteCalls:
    """Calls of one route on one meter, and the live quantity that they came to. `route_id` as of `margin_sql`."""

    route_id: int
    meter_id: int
    calls: Calls
    quantity: Decimal
    cost: Decimal
    free_cost: Decimal


_Row = TypeVar("_Row", CustomerCalls, RouteCalls)


@dataclass(frozen=True, slots=True)
class RouteMargin:
    """A route's share, with the cost of one call in its parts. `is_measured`: time or bytes are as measured; `is_calls`
    False: usage that was reported, and revenue without any call."""

    route_id: int
    label: str
    margin: Margin
    call: CallCost
    is_measured: bool = False
    is_calls: bool = True

    @property
    def revenue_per_call(self) -> Decimal | None:
        """What a charged call brought on average, major units."""
        charged = self.margin.calls.charged
        return self.margin.revenue / charged if charged > 0 and self.is_calls else None

    @property
    def cost_per_charged(self) -> Decimal | None:
        """What a charged call has to bring in: the route's whole cost, with that of its calls without a charge."""
        charged = self.margin.calls.charged
        return self.margin.cost / charged if charged > 0 and self.is_calls else None


def total(margins: Iterable[Margin], currency: str) -> Margin:
    return sum(margins, Margin(currency))


def by_customer(rows: Iterable[CustomerCalls], revenue: Revenue, currency: str) -> dict[int, Margin]:
    """By organization id: who called, and who was charged anything."""
    return _grouped(
        rows, revenue, currency, lambda row: row.organization_id, lambda organization, plan: organization
    )


def by_plan(rows: Iterable[CustomerCalls], revenue: Revenue, currency: str) -> dict[int, Margin]:
    """By plan id."""
    return _grouped(rows, revenue, currency, lambda row: row.plan_id, lambda organization, plan: plan)


def by_route(rows: Sequence[RouteCalls], revenue: Revenue, currency: str, *, rest: int) -> dict[int, Margin]:
    """By route id. What a meter's prices came to is shared by the quantities that routes counted on it, all else (fees,
    minimums, credits) by charged calls; what no route can take stands at `rest`."""
    found = _grouped(rows, {}, currency, lambda row: row.route_id, lambda *ids: rest)
    of_meter: dict[int, int] = defaultdict(int)
    for (_, _, meter), minor in revenue.items():
        of_meter[meter] += minor
    for meter, minor in of_meter.items():
        weights = _weights(rows, meter) or {rest: Decimal(1)}
        for route, part in share_out(minor, weights).items():
            found[route] = found.get(route, Margin(currency)) + Margin(currency, revenue_minor=part)
    return found


def share_out(minor: int, weights: Mapping[int, Decimal]) -> dict[int, int]:
    """Whole minor units in proportion to positive weights, without rest: the largest fractions get what is left over."""
    whole = sum(weights.values(), ZERO)
    exact = {key: Decimal(minor) * weight / whole for key, weight in weights.items()}
    shared = {key: int(part // 1) for key, part in exact.items()}
    left = minor - sum(shared.values())
    step = 1 if left >= 0 else -1
    places = sorted(weights, key=lambda key: exact[key] - shared[key], reverse=True)
    for number in range(abs(left)):
        shared[places[number % len(places)]] += step
    return shared


def _weights(rows: Iterable[RouteCalls], meter: int) -> dict[int, Decimal]:
    found: dict[int, Decimal] = defaultdict(Decimal)
    for row in rows:
        if not meter:
            found[row.route_id] += row.calls.charged
        elif row.meter_id == meter:
            found[row.route_id] += row.quantity
    return {route: weight for route, weight in found.items() if weight > 0}


def _grouped(
    rows: Iterable[_Row],
    revenue: Revenue,
    currency: str,
    key: Callable[[_Row], int],
    key_of_revenue: Callable[[int, int], int],
) -> dict[int, Margin]:
    found: dict[int, Margin] = {}

    def add(name: int, more: Margin) -> None:
        found[name] = found.get(name, Margin(currency)) + more

    for row in rows:
        add(key(row), Margin(currency, row.calls, row.cost, row.free_cost))
    for (organization, plan, _), minor in revenue.items():
        add(key_of_revenue(organization, plan), Margin(currency, revenue_minor=minor))
    return found
