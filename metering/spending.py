"""Where a customer stands in a period: what usage has cost, which cap holds, and the largest bill that is possible; and
setting a cap, which has to know what is spent."""

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from redis.exceptions import RedisError

from accounts.models import Organization, User
from core.redis import usage_redis
from core.redis_layout import usage_key
from metering.costs import fee_is_due, period_cost
from plans.cap_table import GRAINS, spent
from plans.caps import (
    CapInForce,
    check_can_set_cap,
    dropped_caps,
    lower_cap,
    newest_caps,
    set_cap,
    usage_bound_minor,
)
from plans.models import CapSide, OverCap, Period, PlanVersion, SpendCap
from plans.price_tables import price_tables
from plans.pricing import Rated
from plans.queries import current_period, find_period

USAGE_KINDS = ("usage", "write_off")


@dataclass(frozen=True, slots=True)
class SpendPosition:
    """One period; amounts in minor units of `currency`, before tax. `usage_most_minor` None: nothing bounds the usage;
    `fee_minor` is what this period's statement charges as fee."""

    period: Period
    currency: str
    usage_minor: int
    cap: CapInForce | None
    dropped: tuple[SpendCap, ...]
    fee_minor: int
    usage_most_minor: int | None

    @property
    def minimum_minor(self) -> int:
        return 0 if self.period.is_trial else self.period.version.minimum_minor

    @property
    def largest_bill_minor(self) -> int | None:
        """Fee and the most that usage can cost (at least a minimum spend); None without an upper bound."""
        if self.usage_most_minor is None:
            return None
        return self.fee_minor + max(self.usage_most_minor, self.minimum_minor)

    @property
    def later_usage_is_billed(self) -> bool:
        """Whether usage that is reported after the cap was reached comes on top."""
        return self.cap is not None and self.period.version.over_cap == OverCap.BILLED

    @property
    def share(self) -> int:
        """Per cent of the cap that is spent, whole, at most 100."""
        if self.cap is None:
            return 0
        return min(100, self.usage_minor * 100 // self.cap.amount_minor) if self.cap.amount_minor else 100


def spend_position(
    organization: Organization, *, at: datetime, rated: Rated | None = None
) -> SpendPosition | None:
    """The present period's position; None without a plan. `rated` saves rating again what was rated before."""
    period = find_period(organization, at=at)
    if period is None:
        return None
    version, caps = period.version, newest_caps(organization, at=at)
    bound = usage_bound_minor(organization, period, at=at)
    most = 0 if period.is_trial else bound if bound is not None else most_usage_minor(version)
    return SpendPosition(
        period=period,
        currency=version.currency,
        usage_minor=usage_minor(rated or period_cost(organization, period=period, at=at)),
        cap=lower_cap(caps, version.currency),
        dropped=tuple(dropped_caps(caps, version.currency)),
        fee_minor=version.fee_minor if fee_is_due(period) else 0,
        usage_most_minor=most,
    )


def usage_minor(rated: Rated) -> int:
    """Usage charges of a period: its usage lines less what was written off; no fee, no minimum, no credit."""
    return sum(line.amount_minor for line in rated.lines if line.kind in USAGE_KINDS)


def most_usage_minor(version: PlanVersion) -> int | None:
    """The most that usage of a period can cost by the prices alone: where nothing above the included quantity is sold, or
    every line has a maximum. None: there is no such bound."""
    most = 0
    for component in version.components.all():
        if component.sells_more and component.maximum_minor is None:
            return None
        most += (component.maximum_minor or 0) if component.sells_more else 0
    return most


def spent_so_far_minor(organization: Organization, period: Period) -> int:
    """What usage has cost at this moment: by the ledger or, where it lags, by the counters that the doors go by."""
    counted = 0 if period.is_trial else _counted_minor(organization, period)
    return max(usage_minor(period_cost(organization, period=period)), counted)


@transaction.atomic
def set_spend_cap(
    *, organization: Organization, side: CapSide, amount_minor: int | None, by: User | None, at: datetime
) -> SpendCap:
    """Set, change or (None) remove one side's cap, with what is spent at this moment. Raises what `set_cap` raises."""
    check_can_set_cap(by, organization, side)
    # Locked before it is read what is spent: another cap, or another plan, may be set meanwhile.
    organization = Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    spent_minor = spent_so_far_minor(organization, current_period(organization, at=at))
    return set_cap(
        organization=organization, side=side, amount_minor=amount_minor, spent_minor=spent_minor, by=by, at=at
    )


def _counted_minor(organization: Organization, period: Period) -> int:
    tables = price_tables(period.version)
    if any(table.lines > 1 for table in tables):
        return 0  # counters do not know dimensions: an upper bound is not what was spent
    try:
        held = usage_redis().hgetall(usage_key(organization.shard, organization.pk, "live", period.pk))
    except RedisError:
        return 0  # the ledger knows all but the last moments
    settled = {int(name): int(units) for name, units in held.items() if name.isdigit()}
    return -(-spent(tables, settled) // GRAINS)
