"""What a period costs: rating applied to the ledger's totals. Alerts, doors, pages and statements ask here, so that the
live cost of a period and its statement are one number."""

from collections.abc import Sequence
from dataclasses import replace

from accounts.models import Organization
from metering.queries import period_quantities, quantities_by_period
from plans.history import monthly_fee_minor
from plans.models import Interval, Period, PlanVersion
from plans.periods import month_number
from plans.pricing import Rated, Usage, rate_period, trial_terms
from plans.queries import terms_of

MONTHS_A_YEAR = 12


def period_cost(organization: Organization, *, period: Period) -> Rated:
    """The cost of a period so far, with its lines: live usage only."""
    return rate_so_far(period, period_quantities(organization, period=period, mode="live"))


def period_costs(periods: Sequence[Period]) -> list[Rated]:
    """The costs of many periods so far, in their order; `periods` come with `version__plan` and its components."""
    quantities = quantities_by_period([period.pk for period in periods])
    return [rate_so_far(period, quantities.get(period.pk, {})) for period in periods]


def rate_so_far(period: Period, quantities: Usage) -> Rated:
    """The cost of these quantities in this period. In a trial there is no fee, and what was reported above the included
    quantity is written off (ENGINE.md, section 4); a yearly fee stands in the first month of its year."""
    terms = terms_of(period.version)
    if period.is_trial:
        return rate_period(trial_terms(terms), quantities, charge_fee=False)
    return rate_period(terms, quantities, charge_fee=fee_is_due(period))


def rate_on(version: PlanVersion, quantities: Usage) -> Rated:
    """What a month with these quantities costs on any plan version, with its fee as a share of one month: for advice and
    simulation."""
    terms = replace(terms_of(version), fee_minor=monthly_fee_minor(version))
    return rate_period(terms, quantities)


def fee_is_due(period: Period) -> bool:
    """Whether the plan's fee is charged in this period: each month, or once in twelve on yearly plans; never in a trial."""
    if period.is_trial:
        return False
    months = month_number(period.anchor, period.starts_at)
    return period.version.interval == Interval.MONTH or months % MONTHS_A_YEAR == 0
