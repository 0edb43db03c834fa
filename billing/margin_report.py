"""The margin report of one month and currency, as the staff page and its CSV show it.

A closed month is the billing periods that ended in it, so that calls stand beside the very charges that they were rated
at; "running" is the periods that are open now. A fixed number of queries, however many customers there are.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from django.db import connection
from django.db.models import F, QuerySet, Sum

from accounts.models import Organization
from billing.margin_sql import CALLS, MEASURED, REPORTED
from billing.margins import (
    Calls,
    CustomerCalls,
    Margin,
    RouteCalls,
    RouteMargin,
    by_customer,
    by_plan,
    by_route,
    total,
)
from billing.models import Statement, StatementKind, StatementLine, StatementState
from billing.revenue_queries import month_end, month_start
from core.any_of import any_of
from metering.costs import period_costs
from metering.models import UsageEvent
from plans.cost_baselines import CallCost, MeasuredCall, call_cost, find_cost_prices
from plans.models import CostPrices, Meter, Period, Plan, Route, RouteCost
from plans.tiers import ZERO

NO_ROUTE = 0  # calls of a door without routes
LABELS = {NO_ROUTE: "Calls without a route", REPORTED: "Not from calls"}
# What is measured of a route: who calls most, how many hours before the newest with calls, calls of each.
SAMPLE = {"customers": 40, "hours": 3, "calls": 250}
NOTHING = CallCost(ZERO, ZERO, ZERO, ZERO)
THOUSAND = Decimal(1000)
MOMENT = timedelta(microseconds=1)
PeriodRow = tuple[int, int, int]  # period, organization, plan


@dataclass(frozen=True, slots=True)
class NamedMargin:
    """A plan or a customer (with its public id) in the report."""

    name: str
    public_id: str
    margin: Margin


@dataclass(frozen=True, slots=True)
class MarginReport:
    """`month` None: the periods that are open now. Without `prices` nothing has a cost, and the parts are empty."""

    month: date | None
    currency: str
    prices: CostPrices | None
    total: Margin
    plans: tuple[NamedMargin, ...] = ()
    customers: tuple[NamedMargin, ...] = ()
    routes: tuple[RouteMargin, ...] = ()
    unstated: int = 0  # periods that are over without a statement: their revenue is their cost so far


def margin_report(*, month: date | None, currency: str, at: datetime) -> MarginReport:
    """All parts of the report. Prices are those of the month's last moment, or of `at` while it runs."""
    prices = find_cost_prices(currency, at=min(month_end(month) - MOMENT, at) if month else at)
    if prices is None:
        return MarginReport(month, currency, None, Margin(currency))
    periods = _periods(month, currency, at)
    costs, measured = _route_costs(prices, [pk for pk, _, _ in periods])
    customers, routes = _calls(periods, {route: cost.total for route, (cost, _, _) in costs.items()})
    revenue, unstated = _revenue(periods, month=month, currency=currency, at=at)
    plans = by_plan(customers, revenue, currency)
    return MarginReport(
        month,
        currency,
        prices,
        total(plans.values(), currency),
        _named(plans, Plan.objects.filter(pk__in=any_of(plans)).values_list("pk", "name", "slug")),
        _customers(by_customer(customers, revenue, currency)),
        _routes(by_route(routes, revenue, currency, rest=REPORTED), costs, measured),
        unstated if month else 0,
    )


def _periods(month: date | None, currency: str, at: datetime) -> list[PeriodRow]:
    rows = Period.objects.filter(version__currency=currency)
    if month is None:
        rows = rows.filter(starts_at__lte=at, ends_at__gt=at, subscription__ended_at=None)
    else:
        rows = rows.filter(ends_at__gte=month_start(month), ends_at__lt=month_end(month), ends_at__lte=at)
    return list(rows.order_by("pk").values_list("pk", "organization_id", "version__plan_id"))


def _route_costs(
    prices: CostPrices, periods: list[int]
) -> tuple[dict[int, tuple[CallCost, str, bool]], set[int]]:
    """Of each route: what a call costs, its name, and whether its own row says so; and the routes that were measured."""
    routes = list(Route.objects.select_related("product", "cost"))
    takes = {route.pk: getattr(route, "cost", None) or RouteCost() for route in routes}
    takes[NO_ROUTE] = RouteCost()
    names = {route.pk: str(route) for route in routes} | LABELS
    is_set = {route.pk for route in routes if hasattr(route, "cost")}
    is_open = [pk for pk, row in takes.items() if row.compute_ms is None or row.kb_out is None]
    measured = measured_calls(periods, is_open) if is_open and periods else {}
    costs = {
        pk: (call_cost(row, prices, measured.get(pk, MeasuredCall())), names[pk], pk in is_set)
        for pk, row in takes.items()
    }
    return costs, set(is_open)


def measured_calls(periods: Sequence[int], routes: Sequence[int]) -> dict[int, MeasuredCall]:
    """What calls of these routes took on average in these periods: the newest of the customers who call them most, a
    bounded number. Errors and test calls count as well: they are served too."""
    with connection.cursor() as cursor:
        cursor.execute(MEASURED, {"periods": list(periods), "routes": list(routes), **SAMPLE})
        return {
            route: MeasuredCall(compute_ms=micros / THOUSAND, kb_out=size / THOUSAND)
            for route, micros, size in cursor.fetchall()
        }


def _calls(
    periods: Sequence[PeriodRow], costs: dict[int, Decimal]
) -> tuple[list[CustomerCalls], list[RouteCalls]]:
    values: dict[str, list[int] | list[Decimal]] = {
        "periods": [pk for pk, _, _ in periods],
        "routes": list(costs),
        "costs": list(costs.values()),
    }
    customers, routes = [], []
    with connection.cursor() as cursor:
        cursor.execute(CALLS, values)
        for organization, plan, route, meter, charged, uncharged, test, quantity, cost, free in cursor:
            calls = Calls(int(charged), int(uncharged), int(test))
            if organization is not None:
                customers.append(CustomerCalls(organization, plan, calls, cost, free))
            else:
                routes.append(RouteCalls(route, meter, calls, quantity, cost, free))
    return customers, routes


def _revenue(
    periods: Sequence[PeriodRow], *, month: date | None, currency: str, at: datetime
) -> tuple[dict[tuple[int, int, int], int], int]:
    """Minor units by organization, plan and meter (0: fees and all else), and how many periods have no statement yet."""
    ids = [pk for pk, _, _ in periods]
    found: dict[tuple[int, int, int], int] = defaultdict(int)
    stated: set[int] = set()
    if month is not None:
        statements = Statement.objects.filter(kind=StatementKind.PERIOD, period__in=any_of(ids))
        stated = set(statements.values_list("period_id", flat=True))
        for key, minor in _charged(ids, currency):
            found[key] += minor
    rest = [row for row in periods if row[0] not in stated]
    for key, minor in _so_far(rest, at):
        found[key] += minor
    return dict(found), len(rest)


def _charged(ids: list[int], currency: str) -> Iterable[tuple[tuple[int, int, int], int]]:
    """What standing documents charged for these periods: adjustments with the period whose calls they bill, wherever
    they are printed."""
    lines = StatementLine.objects.filter(
        statement__state=StatementState.FINALISED, statement__currency=currency
    ).order_by()
    own = lines.filter(of_period=None, statement__period__in=any_of(ids))
    late = lines.filter(of_period__in=any_of(ids))
    yield from _sums(own, "statement__period")
    yield from _sums(late, "of_period")


def _sums(lines: QuerySet[StatementLine], period: str) -> Iterable[tuple[tuple[int, int, int], int]]:
    rows = lines.values_list(
        F(f"{period}__organization_id"), F(f"{period}__version__plan_id"), "meter_id"
    ).annotate(amount=Sum("amount_minor"))
    for organization, plan, meter, amount in rows:
        yield (organization, plan, meter or 0), amount


def _so_far(rows: Sequence[PeriodRow], at: datetime) -> Iterable[tuple[tuple[int, int, int], int]]:
    """The live cost of periods without a statement."""
    if not rows:
        return
    plans = {pk: plan for pk, _, plan in rows}
    periods = list(
        Period.objects.filter(pk__in=any_of(plans))
        .select_related("organization", "version__plan", "subscription")
        .prefetch_related("version__components__meter", "version__components__tiers")
    )
    meters = dict(Meter.objects.values_list("slug", "pk"))
    for period, rated in zip(periods, period_costs(periods, at=at), strict=True):
        for line in rated.lines:
            meter = meters.get(line.meter, 0)
            yield (period.organization_id, plans[period.pk], meter), line.amount_minor


def _named(margins: dict[int, Margin], names: Iterable[tuple[int, str, str]]) -> tuple[NamedMargin, ...]:
    rows = [NamedMargin(name, public_id, margins[pk]) for pk, name, public_id in names]
    return tuple(sorted(rows, key=lambda row: (row.margin.margin, row.name)))


def _customers(margins: dict[int, Margin]) -> tuple[NamedMargin, ...]:
    found = Organization.objects.filter(pk__in=any_of(margins))
    return _named(margins, found.values_list("pk", "name", "public_id"))


def _routes(
    margins: dict[int, Margin], costs: dict[int, tuple[CallCost, str, bool]], measured: set[int]
) -> tuple[RouteMargin, ...]:
    rows = []
    for pk, margin in margins.items():
        if not margin.calls.all and not margin.revenue_minor:
            continue
        call, label, _ = costs.get(pk, (NOTHING, LABELS.get(pk, f"Route {pk}"), False))
        rows.append(RouteMargin(pk, label, margin, call, pk in measured, pk != REPORTED))
    return tuple(sorted(rows, key=lambda row: (not row.is_calls, row.margin.margin, row.label)))


def cost_of_call(event: UsageEvent, *, currency: str) -> CallCost | None:
    """What this one call cost, by its own time and bytes where its route leaves them open; None for what is no call, and
    without cost prices of that moment."""
    prices = find_cost_prices(currency, at=event.occurred_at)
    is_call = (event.route_id > 0 or event.status > 0) and event.corrects_id is None
    if prices is None or not is_call:
        return None
    takes = RouteCost.objects.filter(route_id=event.route_id).first() or RouteCost()
    own = MeasuredCall(compute_ms=event.duration_us / THOUSAND, kb_out=event.bytes_out / THOUSAND)
    return call_cost(takes, prices, own)
