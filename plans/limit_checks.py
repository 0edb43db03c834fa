"""What has to be right about limits before they hold: in words, each fault by itself.

A window counts up to 2^32 - 1 smallest units (metering/scripts/windows.lua); what no call can count is no limit.
"""

from collections.abc import Iterator
from decimal import Decimal

from django.db.models import QuerySet

from plans.door import smallest_units
from plans.limit_words import limit_words
from plans.models import (
    OF_TOKENS,
    Counted,
    LimitScope,
    Meter,
    PlanVersion,
    RateLimit,
    Route,
    RouteCharge,
)
from plans.models.limits import shape_faults
from plans.queries import LIMIT_ROWS, token_meters

LARGEST = 2**32 - 1
LONGEST_SECONDS = 31 * 86_400
MOST_LIMITS = (
    60  # with those agreed with a customer, a throttle and a key's own as many as a call can be held against
)


def limit_faults(version: PlanVersion) -> Iterator[str]:
    """What is wrong with the limits of a version that shall go on sale."""
    limits = LIMIT_ROWS.filter(version=version)
    if len(limits) > MOST_LIMITS:
        yield f"A plan has at most {MOST_LIMITS} limits."
    for limit in limits:
        name = limit_words(limit)
        for fault in row_faults(limit):
            yield f"{name}: {fault}"


def row_faults(limit: RateLimit) -> Iterator[str]:
    """What is wrong with one limit."""
    shape = shape_faults(limit)
    if shape:
        yield from (f"{field}: {fault}" for field, fault in shape)
        return
    if fault := amount_fault(limit):
        yield fault
    if limit.scope == LimitScope.ORGANIZATION and limit.measure == Counted.CONCURRENCY:
        yield "Calls of the whole organization at the same time are a field of the plan itself."
    yield from _sold(limit)
    yield from _countable(limit)


def amount_fault(limit: RateLimit) -> str:
    """Why its number or window cannot be counted; '' where it can."""
    if limit.window_seconds > LONGEST_SECONDS:
        return f"Windows are at most 31 days long ({LONGEST_SECONDS:,} seconds)."
    decimals = limit.meter.decimals if limit.meter is not None else 0
    try:
        units = smallest_units(limit.calls, decimals)
    except ValueError:
        return f"{limit.calls.normalize():f} has more decimals than can be counted ({decimals})."
    if units > LARGEST:
        most = Decimal(LARGEST).scaleb(-decimals)
        unit = f" {limit.meter.unit}" if limit.meter is not None else ""
        why = f": it counts {decimals} decimals" if decimals else ""
        return f"A window counts at most {most.normalize():,f}{unit}{why}."
    return ""


def _sold(limit: RateLimit) -> Iterator[str]:
    if limit.route is not None and limit.route.archived_at is not None:
        yield "The route is archived."
    if limit.model is not None and limit.model.archived_at is not None:
        yield "The model is archived."
    if limit.meter is not None and not limit.meter.is_additive:
        yield f"Calls cannot count on {limit.meter}: its readings are reported."


def _countable(limit: RateLimit) -> Iterator[str]:
    """A limit that no call ever counts against would be a promise without a lock."""
    if limit.measure == Counted.UNITS and limit.meter is not None:
        if not _counts_on(limit.meter, limit.route):
            yield f"No call{' on this route' if limit.route else ''} counts on {limit.meter}."
    elif limit.measure in OF_TOKENS and not _counts_tokens(limit):
        yield "No call counts tokens here: that needs a route of language models, or a route with a meter of tokens."
    elif limit.scope == LimitScope.MODEL and not _language_routes().exists():
        yield "No route of language models is on sale."


def _counts_on(meter: Meter, route: Route | None) -> bool:
    routes = _routes() if route is None else _routes().filter(pk=route.pk)
    further = RouteCharge.objects.filter(meter=meter, route__in=routes)
    return routes.filter(meter=meter).exists() or further.exists()


def _counts_tokens(limit: RateLimit) -> bool:
    """Language models tell prompt and answer apart; a meter of tokens on a plain route counts them all."""
    of_models, plain = _language_routes(), _routes().filter(dialect="", meter__in=token_meters())
    if limit.route is not None:
        of_models, plain = of_models.filter(pk=limit.route.pk), plain.filter(pk=limit.route.pk)
    is_plain_enough = limit.measure == Counted.TOKENS and limit.scope != LimitScope.MODEL
    return of_models.exists() or (is_plain_enough and plain.exists())


def _routes() -> QuerySet[Route]:
    return Route.objects.filter(archived_at=None)


def _language_routes() -> QuerySet[Route]:
    return _routes().exclude(dialect="")
