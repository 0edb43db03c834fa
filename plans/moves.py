"""Grandfathering and its end: customers stay on the price list they chose until staff moves them, at their period's end (of a
yearly list, the year's)."""

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Q, QuerySet

from accounts.models import Organization, User
from accounts.permissions import check_can_sell
from accounts.services import record_audit
from core.errors import PortalError
from core.one_by_one import one_by_one
from plans.laying import paid_until
from plans.models import Period, PlanVersion, Subscription, SubscriptionStatus, VersionState
from plans.services import schedule_change


class MoveRefused(PortalError):
    code, status, title = "move_refused", 400, "These customers cannot be moved there"


@dataclass(frozen=True, slots=True)
class MovePreview:
    """Whom a move takes and whom it leaves. The first and the last take effect at these moments (None: nobody)."""

    moved: int
    leaving: int
    planned: int
    first_at: datetime | None
    last_at: datetime | None


def preview_move(*, from_version: PlanVersion, to_version: PlanVersion, at: datetime) -> MovePreview:
    """What `move_customers` would do. Raises MoveRefused."""
    _check(from_version, to_version)
    here = _customers(from_version, at)
    movable = _movable(here)
    present = Period.objects.filter(subscription__in=movable, starts_at__lte=at, ends_at__gt=at)
    ends = [paid_until(period) for period in present.select_related("version").iterator()]
    return MovePreview(
        moved=movable.count(),
        leaving=here.exclude(cancels_at=None).count(),
        planned=here.filter(cancels_at=None).exclude(next_version=None).count(),
        first_at=min(ends, default=None),
        last_at=max(ends, default=None),
    )


def move_customers(
    *, from_version: PlanVersion, to_version: PlanVersion, by: User | None, at: datetime
) -> int:
    """Move who is on one version to another, each at the end of what it has paid for; how many were moved.

    Who cancelled or planned a change of its own is left alone. Each in a transaction of its own; asked twice, the second
    finds nobody. Raises MoveRefused, or Forbidden unless staff asks.
    """
    check_can_sell(by)
    _check(from_version, to_version)
    ids = _movable(_customers(from_version, at)).order_by("pk").values_list("pk", flat=True)
    moved = one_by_one(ids, lambda pk: _move(pk, to_version, by, at), failed="customer_not_moved")
    record_audit(
        organization=None, by=by, action="plan.customers_moved", target=str(from_version), at=at,
        details={"to": str(to_version), "customers": moved},
    )  # fmt: skip
    return moved


@transaction.atomic
def _move(subscription_pk: int, to_version: PlanVersion, by: User | None, at: datetime) -> bool:
    """The customer may have acted since the list was read: what it decided holds. Locks as the customer's acts do, the
    organization before its subscription, so that neither waits for the other for ever."""
    Organization.objects.select_for_update(no_key=True).get(subscriptions=subscription_pk)
    subscription = (
        Subscription.objects.select_for_update(of=("self",))
        .select_related("organization")
        .get(pk=subscription_pk)
    )
    if subscription.ended_at is not None or subscription.cancels_at or subscription.next_version_id:
        return False
    schedule_change(subscription=subscription, version=to_version, by=by, at=at)
    return True


def _check(from_version: PlanVersion, to_version: PlanVersion) -> None:
    """Currency and interval stay what the customer agreed to; everything else is the provider's."""
    if to_version.state != VersionState.PUBLISHED:
        raise MoveRefused("Publish the version first.")
    if from_version.pk == to_version.pk:
        raise MoveRefused("They are on this version already.")
    if (from_version.currency, from_version.interval) != (to_version.currency, to_version.interval):
        raise MoveRefused("Customers keep their currency and interval: choose a list that has the same.")
    if to_version.plan.organization_id is not None and to_version.plan_id != from_version.plan_id:
        raise MoveRefused("A private plan is one customer's: change that customer's subscription instead.")


def _customers(version: PlanVersion, at: datetime) -> QuerySet[Subscription]:
    """Open subscriptions on this version; a trial that is over without payment is closed."""
    over = Q(status=SubscriptionStatus.TRIALING, trial_ends_at__lte=at)
    return Subscription.objects.filter(version=version, ended_at=None).exclude(over)


def _movable(customers: QuerySet[Subscription]) -> QuerySet[Subscription]:
    return customers.filter(cancels_at=None, next_version=None)
