"""Advice on the plan: "on Starter you would have paid 41 USD less over the last three months", only where it is true.

True means: the closed months are rated again on the other plan's prices, to the cent; nothing that was used would have
been refused there (features of the routes that were called, hard quotas, the busiest second, minute, day or month); and
the difference is worth saying. Months in a trial say nothing about what a plan costs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from accounts.models import Organization
from core.money import exponent
from metering.costs import rate_on, rate_so_far
from metering.models import UsageTotal
from metering.queries import NOT_CALLS, quantities_by_period
from plans.models import Interval, Period, PlanVersion, Route
from plans.queries import find_subscription, hard_quotas, public_versions

MONTHS = 3
LEAST_SHARE = 50  # advice starts at a fiftieth (2 %) of what was paid
LEAST_MAJOR = 5  # and at five major units of the currency

_BUSIEST = """
SELECT {counts} FROM (
    SELECT {windows} FROM usage_event
    WHERE organization_id = %(organization)s AND mode = 'live' AND occurred_at >= %(start)s AND occurred_at < %(end)s
        AND door <> ALL(%(doors)s)
) calls
"""

Quantities = Mapping[tuple[str, str], Decimal]


@dataclass(frozen=True, slots=True)
class Advice:
    """`paid_minor` over the `months` before, `would_minor` on `version`; both in minor units of its currency."""

    version: PlanVersion
    months: int
    paid_minor: int
    would_minor: int

    @property
    def saved_minor(self) -> int:
        return self.paid_minor - self.would_minor


def find_advice(organization: Organization, *, at: datetime) -> Advice | None:
    """The public plan on which the last closed months would have cost least, or None when none is worth the change."""
    periods = _closed_periods(organization, at)
    if not periods or not _stays_on(periods[0].version, organization, at):
        return None
    now_on = periods[0].version
    used = quantities_by_period([period.pk for period in periods])
    months = [used.get(period.pk, {}) for period in periods]
    paid = sum(_paid_in(p, q) for p, q in zip(periods, months, strict=True))
    offers = [
        version
        for version in public_versions(now_on.currency, now_on.interval)
        if version.plan_id != now_on.plan_id
        and all(fits_quotas(version, quantities) for quantities in months)
    ]
    costs = sorted((sum(rate_on(v, q).total_minor for q in months), v.pk, v) for v in offers)
    for would, _, version in costs:
        advice = Advice(version, len(periods), paid, would)
        if not is_worth_saying(advice):
            return None  # the others save even less
        if _fits_features(version, organization, periods) and _fits_limits(version, organization, periods):
            return advice
    return None


def _stays_on(version: PlanVersion, organization: Organization, at: datetime) -> bool:
    """Whether the customer is still on this version's plan, with no other plan and no end to come: who has just chosen
    needs no advice, least of all to choose the same."""
    subscription = find_subscription(organization, at=at)
    if subscription is None or subscription.ended_at is not None or subscription.cancels_at is not None:
        return False
    after = subscription.next_version or subscription.version
    return subscription.version.plan_id == after.plan_id == version.plan_id


def _paid_in(period: Period, quantities: Quantities) -> int:
    """What a month cost; of a yearly plan with a twelfth of its fee, as the offers have it: the statement of its first
    month has all of it, those of the others nothing."""
    if period.version.interval == Interval.YEAR:
        return rate_on(period.version, quantities).total_minor
    return rate_so_far(period, quantities).total_minor


def is_worth_saying(advice: Advice) -> bool:
    """Whether the difference is large enough to trouble somebody with it."""
    least: int = LEAST_MAJOR * 10 ** exponent(advice.version.currency)
    return advice.saved_minor >= least and advice.saved_minor * LEAST_SHARE >= advice.paid_minor


def fits_quotas(version: PlanVersion, quantities: Quantities) -> bool:
    """Whether a month with these quantities stays within the version's hard quotas, and every used meter is sold there."""
    by_meter: dict[str, Decimal] = {}
    for (meter, _), quantity in quantities.items():
        by_meter[meter] = by_meter.get(meter, Decimal(0)) + quantity
    quotas = hard_quotas(version.components.all())
    return all(_fits(quotas, meter, quantity) for meter, quantity in by_meter.items() if quantity)


def _fits(quotas: Mapping[str, Decimal | None], meter: str, quantity: Decimal) -> bool:
    quota = quotas.get(meter, Decimal(0))  # a meter that is not sold there has nothing to give
    return quota is None or quantity <= quota


def _closed_periods(organization: Organization, at: datetime) -> list[Period]:
    """The last months that are over, newest first; up to the last change of plan, because only those compare."""
    over = (
        Period.objects.for_organization(organization)
        .filter(ends_at__lte=at)
        .select_related("version__plan", "subscription")
        .prefetch_related("version__components__meter", "version__components__tiers")
        .order_by("-starts_at")[:MONTHS]
    )
    return _of_one_version(over)


def _of_one_version(periods: Iterable[Period]) -> list[Period]:
    found: list[Period] = []
    for period in periods:
        if period.is_trial or (found and period.version_id != found[0].version_id):
            break
        found.append(period)
    return found


def _fits_features(version: PlanVersion, organization: Organization, periods: Sequence[Period]) -> bool:
    """Whether the routes that were called ask for nothing that this plan lacks."""
    called = (
        UsageTotal.objects.for_organization(organization)
        .filter(mode="live", period_id__in=[period.pk for period in periods], route_id__gt=0)
        .values("route_id")
        .distinct()
    )
    needed = Route.objects.filter(pk__in=called).exclude(required_feature="")
    return set(needed.values_list("required_feature", flat=True)) <= set(version.features)


def _fits_limits(version: PlanVersion, organization: Organization, periods: Sequence[Period]) -> bool:
    """Whether no window of the plan's rate limits would have been too full, wherever it lay. Reads single events: asked
    last."""
    limits = [limit for limit in version.rate_limits.all() if limit.of_calls]
    if not limits:
        return True
    # A window holds what came after its begin, up to and with its last call.
    counts = ", ".join(f"max(n{number}) <= %(calls{number})s" for number in range(len(limits)))
    windows = ", ".join(
        f"count(*) OVER (ORDER BY occurred_at RANGE BETWEEN %(span{number})s PRECEDING AND CURRENT ROW) AS n{number}"
        for number in range(len(limits))
    )
    scope: dict[str, Any] = {
        "organization": organization.pk,
        "start": periods[-1].starts_at,
        "end": periods[0].ends_at,
        "doors": list(NOT_CALLS),
    }
    for number, limit in enumerate(limits):
        scope[f"calls{number}"] = int(limit.calls)
        scope[f"span{number}"] = timedelta(seconds=limit.window_seconds, microseconds=-1)
    with connection.cursor() as cursor:
        cursor.execute(_BUSIEST.format(counts=counts, windows=windows), scope)
        return all(fits is not False for fits in cursor.fetchone() or ())
