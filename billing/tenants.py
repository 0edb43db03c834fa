"""Acts on tenants through the owner's API: a customer with all that the owner's system says about it, in one transaction."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum

from django.db import transaction

from accounts.models import Organization, OrganizationStatus, Role, User
from accounts.permissions import check_can_sell
from accounts.services import create_organization, invite_member, record_audit
from billing.accounts import account_changed
from billing.stripe.customers import link_customer, take_customer_lock
from core.errors import PortalError
from core.money import exponent, to_minor
from metering.spending import set_spend_cap
from plans.agreed_limits import set_limits
from plans.caps import newest_caps
from plans.daily_tokens import set_daily_tokens
from plans.models import CapSide, PlanVersion
from plans.overrides import Grant, OverrideIncomplete
from plans.queries import find_offer, find_period, public_versions
from plans.services import VersionNotOnSale, start_subscription
from plans.suspension import reactivate_organization, suspend_organization
from plans.versions import raise_version

REASON = "Set through the owner's API"


class NoPlan(PortalError):
    code, status, title = (
        "no_plan",
        409,
        "This organization has no plan, so no currency that a cap could be in",
    )


class OtherCurrency(PortalError):
    code, status, title = "other_currency", 400, "The cap has to be in the currency of the plan"


class Unsaid(Enum):
    """What a change does not speak of stays as it is; None takes it away."""

    UNSAID = "unsaid"


UNSAID = Unsaid.UNSAID


@dataclass(frozen=True, slots=True)
class TenantChange:
    """What shall be different. `monthly_spend_cap` is in major units, of `currency` where that is said."""

    name: str | Unsaid = UNSAID
    stripe_customer_id: str | None | Unsaid = UNSAID
    daily_token_limit: int | None | Unsaid = UNSAID
    monthly_spend_cap: Decimal | None | Unsaid = UNSAID
    rate_limits: tuple[Grant, ...] | Unsaid = UNSAID
    currency: str = ""
    enabled: bool | Unsaid = UNSAID
    reason: str = ""


@transaction.atomic
def create_tenant(
    *, name: str, plan: str, owner_email: str, wanted: TenantChange, by: User | None, through: str, at: datetime
) -> Organization:  # fmt: skip
    """A customer on this plan (its offer key; '': the first of the pricing page; paid ones in their trial), with its limits.
    Its owner, if named, is invited by mail. Raises Forbidden, VersionNotOnSale, and what `change_tenant` raises."""
    check_can_sell(by)
    version = _offer(plan)
    organization = create_organization(name=name, owner=None, by=by, at=at)
    start_subscription(organization=organization, version=version, by=by, at=at)
    _apply(organization, replace(wanted, name=UNSAID), by, at)
    if owner_email:  # from the provider: customers do not read the names of its staff
        invite_member(organization=organization, email=owner_email, role=Role.OWNER, by=None, at=at)
    _audit(organization, "tenant.created", by, through, at)
    return organization


@transaction.atomic
def change_tenant(
    *, organization: Organization, wanted: TenantChange, by: User | None, through: str, at: datetime
) -> Organization:
    """Carry out what differs from how it is; what is as wanted already stays untouched.

    Raises Forbidden, NoPlan, OtherCurrency, CapOutOfRange, and what `link_customer` raises.
    """
    check_can_sell(by)
    if wanted.stripe_customer_id is not UNSAID:
        take_customer_lock(organization.pk)  # always before the organization's row, as events do
    organization = Organization.objects.select_for_update().get(pk=organization.pk)
    if _apply(organization, wanted, by, at):
        _audit(organization, "tenant.changed", by, through, at)
    return organization


def _apply(organization: Organization, wanted: TenantChange, by: User | None, at: datetime) -> bool:
    done = [
        _rename(organization, wanted),
        _link(organization, wanted, by, at),
        _limit_tokens(organization, wanted, by, at),
        _limit(organization, wanted, by, at),
        _cap(organization, wanted, by, at),
        _open_or_close(organization, wanted, by, at),
    ]
    return any(done)


def _rename(organization: Organization, wanted: TenantChange) -> bool:
    if isinstance(wanted.name, Unsaid) or wanted.name == organization.name:
        return False
    organization.name = wanted.name
    organization.save(update_fields=["name"])
    raise_version(organization)
    account_changed.send(sender=Organization, organization=organization)
    return True


def _link(organization: Organization, wanted: TenantChange, by: User | None, at: datetime) -> bool:
    if isinstance(wanted.stripe_customer_id, Unsaid):
        return False
    link_customer(organization=organization, stripe_id=wanted.stripe_customer_id, by=by, at=at)
    return True


def _limit_tokens(organization: Organization, wanted: TenantChange, by: User | None, at: datetime) -> bool:
    if isinstance(wanted.daily_token_limit, Unsaid):
        return False
    return set_daily_tokens(
        organization=organization, tokens=wanted.daily_token_limit, reason=REASON, by=by, at=at
    )


def _limit(organization: Organization, wanted: TenantChange, by: User | None, at: datetime) -> bool:
    if isinstance(wanted.rate_limits, Unsaid):
        return False
    try:
        return set_limits(organization=organization, wanted=wanted.rate_limits, reason=REASON, by=by, at=at)
    except OverrideIncomplete as refused:  # named as the API's fields are
        refused.field = {"amount": "rate_limits.limit"}.get(refused.field, refused.field)
        raise


def _cap(organization: Organization, wanted: TenantChange, by: User | None, at: datetime) -> bool:
    """The provider's cap, which the customer cannot raise."""
    if isinstance(wanted.monthly_spend_cap, Unsaid):
        return False
    period = find_period(organization, at=at)
    if period is None:
        if wanted.monthly_spend_cap is None:
            return False
        raise NoPlan
    currency = period.version.currency
    if wanted.currency and wanted.currency != currency:
        raise OtherCurrency(f"The plan is in {currency}.", field="currency")
    amount_minor = _minor(wanted.monthly_spend_cap, currency)
    before = newest_caps(organization, at=at).get(CapSide.OWNER)
    is_same = before is not None and (before.currency == currency or before.amount_minor is None)
    if (before.amount_minor if is_same and before is not None else None) == amount_minor:
        return False
    set_spend_cap(organization=organization, side=CapSide.OWNER, amount_minor=amount_minor, by=by, at=at)
    return True


def _minor(amount: Decimal | None, currency: str) -> int | None:
    if amount is None:
        return None
    if amount != round(amount, exponent(currency)):
        raise OtherCurrency(f"{currency} has {exponent(currency)} decimals.", field="monthly_spend_cap")
    return to_minor(amount, currency)


def _open_or_close(organization: Organization, wanted: TenantChange, by: User | None, at: datetime) -> bool:
    is_open = organization.status == OrganizationStatus.ACTIVE
    if isinstance(wanted.enabled, Unsaid) or wanted.enabled == is_open:
        return False
    if wanted.enabled:
        reactivate_organization(organization=organization, by=by, at=at)
    else:
        suspend_organization(organization=organization, reason=wanted.reason or REASON, by=by, at=at)
    return True


def _offer(plan: str) -> PlanVersion:
    version = find_offer(plan) if plan else next(iter(public_versions()), None)
    if version is None:
        raise VersionNotOnSale(field="plan")
    return version


def _audit(organization: Organization, action: str, by: User | None, through: str, at: datetime) -> None:
    record_audit(
        organization=organization, by=by, action=action, target=organization.public_id, at=at,
        details={"through": through},
    )  # fmt: skip
