"""Spend caps: "never more than this for usage in a period", set by the customer and by the provider; the lower one holds.

A cap bounds usage charges before tax and credits, not the fee and not a minimum spend. It is in the currency of the plan: on
a plan of another currency it does not hold, and pages say so. Rows are only ever added; the newest of each side counts.
"""

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from accounts.models import AuditEvent, Organization, Role, User
from accounts.permissions import find_role
from core.errors import Forbidden, PortalError
from core.money import format_money
from plans.cap_table import LARGEST_CAP_MINOR
from plans.models import CapSide, Period, SpendCap
from plans.queries import current_period
from plans.versions import raise_version

CAP_SETTERS = (Role.OWNER, Role.ADMIN, Role.BILLING)


class CapOutOfRange(PortalError):
    code, status, title = "cap_out_of_range", 400, "This cap is too small or too large"


class CapUnchanged(PortalError):
    code, status, title = "nothing_to_change", 409, "This is the cap already"


@dataclass(frozen=True, slots=True)
class CapInForce:
    """The cap that holds now, and whose it is. `spent_minor` was spent in its period when it was set."""

    side: CapSide
    amount_minor: int
    currency: str
    spent_minor: int
    by: User | None
    at: datetime

    def __str__(self) -> str:
        return format_money(self.amount_minor, self.currency)


def can_set_cap(user: User | None, organization: Organization, side: CapSide) -> bool:
    """The customer's cap: owners, admins and billing members; the provider's: staff. None is the system."""
    if user is None:
        return True
    return user.is_staff if side == CapSide.OWNER else find_role(user, organization) in CAP_SETTERS


def check_can_set_cap(user: User | None, organization: Organization, side: CapSide) -> None:
    """Raises Forbidden unless `can_set_cap`."""
    if not can_set_cap(user, organization, side):
        raise Forbidden("Owners, admins and billing members set the spend cap.")


@transaction.atomic
def set_cap(
    *,
    organization: Organization,
    side: CapSide,
    amount_minor: int | None,
    spent_minor: int,
    by: User | None,
    at: datetime,
) -> SpendCap:
    """Set, change or (None) remove one side's cap; it holds from the next call on, on every worker.

    `spent_minor` is the usage cost of the period so far (metering/costs.py): a cap set below it closes the door, and what
    was spent is still owed. Raises Forbidden, CapOutOfRange, CapUnchanged, and Period.DoesNotExist without a plan.
    """
    check_can_set_cap(by, organization, side)
    organization = Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    period = current_period(organization, at=at)
    currency = period.version.currency
    _check_range(amount_minor)
    before = newest_caps(organization, at=at).get(side)
    if _amount(before, currency) == amount_minor:
        raise CapUnchanged
    bound = usage_bound_minor(organization, period, at=at)
    cap = SpendCap.objects.create(
        organization=organization,
        side=side,
        amount_minor=amount_minor,
        currency=currency,
        spent_minor=spent_minor if bound is None else min(spent_minor, bound),
        by=by,
        at=at,
    )
    raise_version(organization)
    _audit(cap, before)
    return cap


def newest_caps(organization: Organization, *, at: datetime) -> dict[CapSide, SpendCap]:
    """The newest row of each side, also those that took the cap away or are in another currency."""
    rows = SpendCap.objects.for_organization(organization).filter(at__lte=at).select_related("by")
    newest = rows.order_by("side", "-at", "-pk").distinct("side")
    return {CapSide(cap.side): cap for cap in newest}


def cap_in_force(organization: Organization, *, at: datetime) -> CapInForce | None:
    """The lower of both sides' caps in the present plan's currency; None where nobody set one (or in a trial, where
    nothing is charged, it still stands and holds from the first paid period on)."""
    return lower_cap(newest_caps(organization, at=at), current_period(organization, at=at).version.currency)


def lower_cap(caps: dict[CapSide, SpendCap], currency: str) -> CapInForce | None:
    """The lower of these rows' caps in this currency, or None."""
    holding = [
        CapInForce(side, cap.amount_minor, cap.currency, cap.spent_minor, cap.by, cap.at)
        for side, cap in caps.items()
        if cap.amount_minor is not None and cap.currency == currency
    ]
    return min(holding, key=lambda cap: cap.amount_minor, default=None)


def dropped_caps(caps: dict[CapSide, SpendCap], currency: str) -> list[SpendCap]:
    """Caps that do not hold because the plan is now in another currency."""
    return [cap for cap in caps.values() if cap.amount_minor is not None and cap.currency != currency]


def usage_bound_minor(
    organization: Organization, period: Period, *, at: datetime | None = None
) -> int | None:
    """The most that usage of this period may cost on its statement, or None without a cap.

    It is the cap that held last in the period (until `at`), but never less than what was spent when it was set: a cap is
    no way to take back what was used under a higher one. In a trial None: nothing is charged.
    """
    if period.is_trial:
        return None
    until = period.ends_at if at is None else min(at, period.ends_at)
    rows = SpendCap.objects.for_organization(organization).filter(at__lte=until)
    if at is None:
        rows = rows.filter(at__lt=period.ends_at)
    newest = rows.order_by("side", "-at", "-pk").distinct("side")
    bounds = [_bound(cap, period) for cap in newest if _amount(cap, period.version.currency) is not None]
    return min(bounds, default=None)


def _bound(cap: SpendCap, period: Period) -> int:
    spent_before = cap.spent_minor if cap.at >= period.starts_at else 0
    return max(cap.amount_minor or 0, spent_before)


def _amount(cap: SpendCap | None, currency: str) -> int | None:
    return cap.amount_minor if cap is not None and cap.currency == currency else None


def _check_range(amount_minor: int | None) -> None:
    if amount_minor is not None and not 0 <= amount_minor <= LARGEST_CAP_MINOR:
        raise CapOutOfRange(f"A cap is 0 to {LARGEST_CAP_MINOR} minor units.")


def _audit(cap: SpendCap, before: SpendCap | None) -> None:
    def words(row: SpendCap | None) -> str:
        has_cap = row is not None and row.amount_minor is not None
        return format_money(row.amount_minor or 0, row.currency) if has_cap and row is not None else "none"

    AuditEvent.objects.create(
        organization=cap.organization,
        by=cap.by,
        action="cap.removed" if cap.amount_minor is None else "cap.set",
        target=cap.side,
        at=cap.at,
        details={"before": words(before), "after": words(cap)},
    )
