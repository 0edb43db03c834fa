"""What a period costs: rating applied to the ledger's totals. Alerts, doors, pages and statements ask here, so that the
live cost of a period and its statement are one number.

Usage and prices are not all: a trial is free, a yearly fee stands in the first month of its year, an upgrade credits the
rest of the fee of the period that it closed, and usage above the spend cap is written off.
"""

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from django.db.models import Exists, OuterRef, Q, Subquery

from accounts.models import Organization
from core.any_of import any_of
from core.money import to_major
from metering.queries import period_quantities, quantities_by_period
from plans.caps import usage_bound_minor
from plans.history import monthly_fee_minor
from plans.models import (
    OverCap,
    Period,
    PlanVersion,
    SpendCap,
    SubscriptionEvent,
    SubscriptionEventKind,
)
from plans.periods import is_first_month
from plans.pricing import Line, Rated, Terms, Usage, rate_period, trial_terms
from plans.proration import credit_line, shortened_minimum
from plans.queries import terms_of
from plans.tiers import ZERO, Tier


def period_cost(organization: Organization, *, period: Period, at: datetime | None = None) -> Rated:
    """The cost of a period so far, with its lines: live usage only. Readings that stand are weighed up to `at`; without
    it, as if they stood until the period's end."""
    return rate_so_far(period, period_quantities(organization, period=period, mode="live", at=at))


def period_costs(periods: Sequence[Period], *, at: datetime | None = None) -> list[Rated]:
    """The costs of many periods so far, in their order; `periods` come with `version__plan` and its components. `at` as in
    period_cost."""
    quantities = quantities_by_period([period.pk for period in periods], at=at)
    rules = cost_rules(periods)
    return [rate(rule, quantities.get(period.pk, {})) for period, rule in zip(periods, rules, strict=True)]


def rate_so_far(period: Period, quantities: Usage) -> Rated:
    """The cost of these quantities in this period. Lists use `period_costs`, trials of many quantities `cost_rules`."""
    return rate(cost_rules([period])[0], quantities)


def rate_on(version: PlanVersion, quantities: Usage) -> Rated:
    """What a month with these quantities costs on any plan version, with its fee as a share of one month: for advice and
    simulation."""
    return rate_period(monthly_terms(version), quantities)


def monthly_terms(version: PlanVersion) -> Terms:
    """A version's terms with its fee as a share of one month, so that yearly and monthly price lists compare."""
    return replace(terms_of(version), fee_minor=monthly_fee_minor(version))


def fee_back_minor(period: Period, *, at: datetime) -> int:
    """What an upgrade at this moment gives back of a running period's fee, minor units: the credit on the statement of the
    period that it closes."""
    closed = copy(period)
    closed.ends_at = at
    quantities = period_quantities(period.organization, period=period, mode="live", at=at)
    line = _fee_credit(replace(cost_rules([period])[0], closed_by_upgrade=closed), quantities)
    return -line.amount_minor if line else 0


def fee_is_due(period: Period) -> bool:
    """Whether the plan's fee is charged in this period: each month, or once in twelve on yearly plans; never in a trial."""
    return not period.is_trial and is_first_month(period.anchor, period.starts_at, period.version.fee_months)


@dataclass(frozen=True, slots=True)
class CostRules:
    """All that decides what a period costs, but for its usage. `closed_by_upgrade` None: it was not; `bound_minor`: the
    most that usage may cost, where a cap was set and what is above it is written off."""

    terms: Terms
    charge_fee: bool
    charge_minimum: bool = True
    closed_by_upgrade: Period | None = None
    bound_minor: int | None = None


def rate(rules: CostRules, quantities: Usage) -> Rated:
    """Lines and total. Pure. Raises ValueError for negative quantities."""
    rated = rate_period(
        rules.terms, quantities, charge_fee=rules.charge_fee, charge_minimum=rules.charge_minimum
    )
    more = []
    if rules.bound_minor is not None and (line := _write_off(rules.terms, rated, rules.bound_minor)):
        more.append(line)
    if rules.closed_by_upgrade is not None and (line := _fee_credit(rules, quantities)):
        more.append(line)
    return Rated(rated.currency, (*rated.lines, *more)) if more else rated


def cost_rules(periods: Sequence[Period]) -> list[CostRules]:
    """The rules of these periods, in their order; three queries for all of them, and some for each customer with a cap."""
    terms: dict[int, tuple[Terms, Terms]] = {}
    upgraded, capped, unpaid = _closed_by_change(periods), _with_caps(periods), after_unpaid_trials(periods)
    found = []
    for period in periods:
        version = period.version
        if version.pk not in terms:
            own = terms_of(version)
            terms[version.pk] = own, trial_terms(own)
        paid, free = terms[version.pk]
        if period.is_trial or period.pk in unpaid:
            found.append(CostRules(free, charge_fee=False, charge_minimum=False))
            continue
        bound = None
        if period.organization_id in capped and version.over_cap == OverCap.WRITTEN_OFF:
            bound = usage_bound_minor(period.organization, period)
        closed = period if period.pk in upgraded and paid.fee_minor else None
        if paid.minimum_minor:
            paid = _with_shortened_minimum(paid, period)
        found.append(CostRules(paid, fee_is_due(period), True, closed, bound))
    return found


def _closed_by_change(periods: Iterable[Period]) -> set[int]:
    """Ids of periods after which another version begins in the same subscription. Where that was planned for the end of
    what had been paid for, nothing of the fee is left to credit."""
    after = Period.objects.filter(
        organization=OuterRef("organization"),
        starts_at=OuterRef("ends_at"),
        subscription=OuterRef("subscription"),
    ).exclude(version=OuterRef("version"))
    rows = Period.objects.filter(pk__in=any_of(period.pk for period in periods), is_trial=False)
    return set(rows.filter(Exists(after)).values_list("pk", flat=True))


def after_unpaid_trials(periods: Iterable[Period]) -> set[int]:
    """Ids of periods after a trial that had ended without payment and before anybody paid, and of those that lie in a pause
    as a whole: the door was closed, and what nobody could use costs nothing. Read from the log, which stays as it was."""
    log = SubscriptionEvent.objects.filter(subscription=OuterRef("subscription"))
    ended = log.filter(kind=SubscriptionEventKind.TRIAL_ENDED, at__lte=OuterRef("starts_at"))
    paid = log.filter(kind=SubscriptionEventKind.TRIAL_CONVERTED, at__lt=OuterRef("ends_at"))
    kinds = (SubscriptionEventKind.PAUSED, SubscriptionEventKind.RESUMED)
    last = log.filter(kind__in=kinds, at__lte=OuterRef("starts_at")).order_by("-at", "-pk").values("kind")[:1]
    resumed = log.filter(
        kind=SubscriptionEventKind.RESUMED, at__gt=OuterRef("starts_at"), at__lt=OuterRef("ends_at")
    )
    paused = Q(was=SubscriptionEventKind.PAUSED) & ~Exists(resumed)
    rows = Period.objects.filter(pk__in=any_of(period.pk for period in periods), is_trial=False)
    closed = rows.annotate(was=Subquery(last)).filter(Exists(ended) & ~Exists(paid) | paused)
    return set(closed.values_list("pk", flat=True))


def _with_caps(periods: Iterable[Period]) -> set[int]:
    rows = SpendCap.objects.filter(organization_id__in=any_of({period.organization_id for period in periods}))
    return set(rows.values_list("organization_id", flat=True).distinct())


def _with_shortened_minimum(terms: Terms, period: Period) -> Terms:
    minimum = shortened_minimum(
        terms.minimum_minor, anchor=period.anchor, starts_at=period.starts_at, ends_at=period.ends_at
    )
    return terms if minimum == terms.minimum_minor else replace(terms, minimum_minor=minimum)


def _write_off(terms: Terms, rated: Rated, bound_minor: int) -> Line | None:
    """Usage above the cap; a minimum spend above the cap is owed all the same."""
    usage = sum(line.amount_minor for line in rated.lines if line.kind == "usage")
    above = usage - max(bound_minor, terms.minimum_minor)
    return (
        _flat_line("Usage above the spend cap, not charged", -above, terms, "write_off")
        if above > 0
        else None
    )


def _fee_credit(rules: CostRules, quantities: Usage) -> Line | None:
    period = rules.closed_by_upgrade
    if period is None:
        return None
    return credit_line(
        rules.terms,
        quantities,
        anchor=period.anchor,
        starts_at=period.starts_at,
        at=period.ends_at,
        months=period.version.fee_months,
    )


def _flat_line(text: str, amount_minor: int, terms: Terms, kind: str) -> Line:
    amount = to_major(amount_minor, terms.currency)
    tier = Tier(ZERO, None, ZERO, ZERO, amount, amount)
    return Line(text, "", "", Decimal(1), amount_minor, (tier,), kind)
