"""Acts on plans and subscriptions. Each raises the organization's version, so that the doors know on the next call."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q

from accounts.models import AuditEvent, Organization, User
from accounts.permissions import check_can_decide_plan, check_can_sell
from core.errors import PortalError
from core.one_by_one import one_by_one
from plans.history import log_ended_trials, record_end, record_event, record_trial_end
from plans.laying import PERIODS_LAID_AHEAD, lay_ahead, lay_periods, paid_until, relay_future
from plans.models import (
    Period,
    PlanVersion,
    Subscription,
    SubscriptionEventKind,
    SubscriptionStatus,
    VersionState,
)
from plans.periods import MONTHS_A_YEAR
from plans.versions import raise_version


class PaymentNeeded(PortalError):
    code, status = "payment_required", 402
    title = "This plan needs a payment method: it has no trial, or the trial has been used"


class VersionNotOnSale(PortalError):
    code, status, title = "plan_not_available", 400, "This plan is not available"


class AlreadySubscribed(PortalError):
    code, status, title = (
        "already_subscribed",
        409,
        "This organization already has a plan",
    )


class NothingToChange(PortalError):
    code, status, title = "nothing_to_change", 409, "This is the plan already"


@transaction.atomic
def start_subscription(
    *,
    organization: Organization,
    version: PlanVersion,
    by: User | None,
    at: datetime,
    has_payment: bool = False,
) -> Subscription:
    """Subscribe an organization that has no open subscription; paid plans start in their trial.

    Raises AlreadySubscribed, VersionNotOnSale, or PaymentNeeded when the trial was used before and nobody pays.
    """
    check_can_decide_plan(by, organization)
    organization = lock_organization(organization)
    _check_on_sale(version, organization)
    if _open_subscription(organization, at) is not None:
        raise AlreadySubscribed
    trial_ends_at = _trial_end(organization, version, at)
    if trial_ends_at is None and not version.is_free and not has_payment:
        raise PaymentNeeded
    is_first = not organization.subscriptions.exists()
    subscription = Subscription.objects.create(
        organization=organization,
        version=version,
        status=SubscriptionStatus.TRIALING
        if trial_ends_at and not has_payment
        else SubscriptionStatus.ACTIVE,
        started_at=at,
        trial_ends_at=trial_ends_at,
    )
    lay_periods(subscription, start=at)
    in_trial = subscription.status == SubscriptionStatus.TRIALING
    kind = SubscriptionEventKind.TRIAL_STARTED if in_trial else SubscriptionEventKind.STARTED
    record_event(subscription, kind, at=at)
    raise_version(organization, is_new=is_first)
    _audit(
        organization,
        by,
        "subscription.started",
        subscription.public_id,
        at,
        plan=version.plan.slug,
    )
    return subscription


@dataclass(frozen=True, slots=True)
class PlanChange:
    """When a change of plan takes effect; `at_once` False is at the end of the present period. `closes`: that period ends
    now, and what is unused of its fee goes back."""

    at_once: bool
    effective_at: datetime
    closes: bool = False


def preview_change(*, subscription: Subscription, version: PlanVersion, at: datetime) -> PlanChange:
    """What `change_plan` would do. An upgrade is at once; a downgrade waits, except when the door is closed anyway."""
    if not _is_open(subscription, at):
        return PlanChange(True, at)
    if is_upgrade(subscription.version, version):
        return PlanChange(True, at, closes=True)
    return PlanChange(False, paid_until(_period_at(subscription, at)))


def is_upgrade(old: PlanVersion, new: PlanVersion) -> bool:
    """More is paid a month, in the list price. What is paid in another currency can't be compared, and is no upgrade but to
    who pays nothing."""
    is_comparable = old.currency == new.currency or old.is_free
    return is_comparable and _yearly(new) > _yearly(old)


@transaction.atomic
def change_plan(
    *, subscription: Subscription, version: PlanVersion, by: User | None, at: datetime
) -> Subscription:
    """Upgrade at once (the period closes, a new one starts with its full included quantity) or downgrade at period's end.

    On a closed door (trial over, cancelled) the old subscription ends and a new one starts. Raises NothingToChange,
    VersionNotOnSale or PaymentNeeded. Rule: DESIGN.md, section 5.
    """
    check_can_decide_plan(by, subscription.organization)
    subscription = reread_locked(subscription)
    organization = subscription.organization
    if version.pk != subscription.version_id or not _is_open(subscription, at):
        _check_on_sale(version, organization)  # who is on a list that is no longer sold may stay on it
    if not _is_open(subscription, at):
        return _restart(organization, subscription, version, by, at)
    if version.pk == subscription.version_id and subscription.cancels_at is None:
        return _forget_next(organization, subscription, by, at)
    if is_upgrade(subscription.version, version):
        _upgrade(organization, subscription, version, at)
    else:
        subscription.next_version, subscription.cancels_at = version, None
        subscription.save(update_fields=["next_version", "cancels_at"])
        relay_future(subscription, at)
    raise_version(organization)
    _audit(
        organization,
        by,
        "plan.changed",
        version.plan.slug,
        at,
        old=subscription.version.plan.slug,
    )
    return subscription


@transaction.atomic
def schedule_change(
    *, subscription: Subscription, version: PlanVersion, by: User | None, at: datetime
) -> Subscription:
    """Staff's change: another version from the period's end on, also where it costs more. The present one takes it back.

    Raises NothingToChange (also where it is cancelled), VersionNotOnSale, or Forbidden unless staff asks.
    """
    check_can_sell(by)
    subscription = reread_locked(subscription)
    organization = subscription.organization
    if not _is_open(subscription, at):
        raise NothingToChange("This subscription has ended; the customer has to choose a plan.")
    if subscription.cancels_at is not None:
        raise NothingToChange("This subscription is cancelled for its period's end.")
    if version.pk == subscription.version_id:
        return _forget_next(organization, subscription, by, at)
    _check_on_sale(version, organization)
    subscription.next_version = version
    subscription.save(update_fields=["next_version"])
    relay_future(subscription, at)
    raise_version(organization)
    _audit(
        organization,
        by,
        "plan.change_planned",
        version.plan.slug,
        at,
        old=str(subscription.version),
        new=str(version),
    )
    return subscription


@transaction.atomic
def cancel_subscription(*, subscription: Subscription, by: User | None, at: datetime) -> Subscription:
    """Cancel at the end of the present period; until then calls pass and it can be undone. Raises NothingToChange."""
    check_can_decide_plan(by, subscription.organization)
    subscription = reread_locked(subscription)
    if subscription.ended_at is not None or subscription.cancels_at is not None:
        raise NothingToChange("This subscription is cancelled already.")
    subscription.cancels_at = paid_until(_period_at(subscription, at))
    subscription.next_version = None
    subscription.save(update_fields=["cancels_at", "next_version"])
    record_event(subscription, SubscriptionEventKind.CANCELLATION_PLANNED, at=at)
    relay_future(subscription, at)
    raise_version(subscription.organization)
    _audit(
        subscription.organization,
        by,
        "subscription.cancelled",
        subscription.public_id,
        at,
    )
    return subscription


@transaction.atomic
def undo_cancellation(*, subscription: Subscription, by: User | None, at: datetime) -> Subscription:
    """Keep the plan after all. Raises NothingToChange when it was not cancelled or has already ended."""
    check_can_decide_plan(by, subscription.organization)
    subscription = reread_locked(subscription)
    if subscription.cancels_at is None or subscription.cancels_at <= at:
        raise NothingToChange("There is no cancellation to undo.")
    subscription.cancels_at = None
    subscription.save(update_fields=["cancels_at"])
    record_event(subscription, SubscriptionEventKind.CANCELLATION_UNDONE, at=at)
    raise_version(subscription.organization)
    _audit(
        subscription.organization,
        by,
        "subscription.cancellation_undone",
        subscription.public_id,
        at,
    )
    return subscription


@transaction.atomic
def activate_subscription(*, subscription: Subscription, by: User | None, at: datetime) -> Subscription:
    """Somebody pays: the door stays open after the trial, and a suspension for payment ends. Where the trial had ended
    before, months begin now: the door was closed, and that time costs nothing. Raises NothingToChange."""
    subscription = reread_locked(subscription)
    if subscription.ended_at is not None:
        raise NothingToChange("This subscription has ended.")
    _resume_after_trial(subscription, at)
    was = subscription.status
    subscription.status, subscription.past_due_since = SubscriptionStatus.ACTIVE, None
    subscription.save(update_fields=["status", "past_due_since"])
    converts = was == SubscriptionStatus.TRIALING
    kind = SubscriptionEventKind.TRIAL_CONVERTED if converts else SubscriptionEventKind.PAID
    if was != SubscriptionStatus.ACTIVE:
        record_event(subscription, kind, at=at)
    raise_version(subscription.organization)
    _audit(
        subscription.organization,
        by,
        "subscription.activated",
        subscription.public_id,
        at,
    )
    return subscription


@transaction.atomic
def mark_past_due(*, subscription: Subscription, by: User | None, at: datetime) -> Subscription:
    """A payment failed or its due date passed: calls pass for the grace days, with a warning. Raises NothingToChange."""
    subscription = reread_locked(subscription)
    if subscription.status != SubscriptionStatus.ACTIVE or subscription.ended_at is not None:
        raise NothingToChange("Only an active subscription can become past due.")
    subscription.status, subscription.past_due_since = SubscriptionStatus.PAST_DUE, at
    subscription.save(update_fields=["status", "past_due_since"])
    record_event(subscription, SubscriptionEventKind.PAST_DUE, at=at)
    raise_version(subscription.organization)
    _audit(subscription.organization, by, "subscription.past_due", subscription.public_id, at)
    return subscription


@transaction.atomic
def suspend_for_payment(*, subscription: Subscription, by: User | None, at: datetime) -> Subscription:
    """The grace days are over: 402 `payment_required` until somebody pays. Raises NothingToChange."""
    subscription = reread_locked(subscription)
    if subscription.status != SubscriptionStatus.PAST_DUE or subscription.ended_at is not None:
        raise NothingToChange("Only a past-due subscription can be suspended for payment.")
    subscription.status = SubscriptionStatus.SUSPENDED
    subscription.save(update_fields=["status"])
    record_event(subscription, SubscriptionEventKind.SUSPENDED, at=at)
    raise_version(subscription.organization)
    _audit(subscription.organization, by, "subscription.suspended", subscription.public_id, at)
    return subscription


def roll_periods(*, at: datetime, limit: int = 500) -> int:
    """Keep two periods laid ahead and carry out what was planned for a period's end; how many subscriptions moved.

    Idempotent; each subscription in its own transaction.
    """
    ahead = Count("periods", filter=Q(periods__starts_at__gt=at))
    begun = Period.objects.filter(
        subscription=OuterRef("pk"), version=OuterRef("next_version"), starts_at__lte=at, ends_at__gt=at
    )
    due = (
        Subscription.objects.filter(ended_at=None)
        .annotate(ahead=ahead)
        .filter(Q(ahead__lt=PERIODS_LAID_AHEAD) | Q(cancels_at__lte=at) | Exists(begun))
        .order_by("pk")
        .values_list("pk", flat=True)[:limit]
    )
    moved = one_by_one(due, lambda pk: _roll(pk, at), failed="subscription_not_rolled")
    log_ended_trials(at=at)
    return moved


@transaction.atomic
def _roll(subscription_pk: int, at: datetime) -> bool:
    # Locked as customers' acts do, the organization first; never the version, which others are on too.
    subscription = reread_locked(Subscription.objects.select_related("organization").get(pk=subscription_pk))
    if subscription.ended_at is not None:
        return False
    changed = carry_out_end(subscription, at=at) or _take_next(subscription, at)
    laid = 0 if subscription.ended_at else lay_ahead(subscription, at)
    if changed or laid:
        raise_version(subscription.organization)
    return bool(changed or laid)


def carry_out_end(subscription: Subscription, *, at: datetime) -> bool:
    """A cancelled subscription ends at the moment it was cancelled for."""
    end = subscription.cancels_at
    if end is None or end > at:
        return False
    lay_ahead(subscription, end)  # a late roll may not have laid all that lies before it
    subscription.periods.filter(starts_at__gte=end).delete()
    was = subscription.status
    subscription.status, subscription.ended_at = SubscriptionStatus.CANCELLED, end
    subscription.save(update_fields=["status", "ended_at"])
    record_end(subscription, was=was, at=end)
    return True


def _take_next(subscription: Subscription, at: datetime) -> bool:
    """A planned downgrade has begun when the present period is already on the next version."""
    if subscription.next_version_id is None:
        return False
    present = _period_at(subscription, at)
    if present.version_id != subscription.next_version_id:
        return False
    old = subscription.version
    subscription.version, subscription.next_version = present.version, None
    if subscription.status == SubscriptionStatus.TRIALING and present.version.is_free:
        subscription.status = SubscriptionStatus.ACTIVE
    subscription.save(update_fields=["version", "next_version", "status"])
    kind = SubscriptionEventKind.PLAN_CHANGED
    record_event(subscription, kind, at=present.starts_at, previous_version=old)
    return True


def _restart(
    organization: Organization,
    old: Subscription,
    version: PlanVersion,
    by: User | None,
    at: datetime,
) -> Subscription:
    carry_out_end(old, at=at)
    if old.ended_at is None:
        old.periods.filter(starts_at__gte=at).delete()
        old.periods.filter(ends_at__gt=at).update(ends_at=at)
        was, old.status, old.ended_at = old.status, SubscriptionStatus.CANCELLED, at
        old.save(update_fields=["status", "ended_at"])
        record_end(old, was=was, at=at)
    return start_subscription(organization=organization, version=version, by=by, at=at)


def _forget_next(
    organization: Organization,
    subscription: Subscription,
    by: User | None,
    at: datetime,
) -> Subscription:
    """Choosing the present plan takes a planned downgrade back."""
    if subscription.next_version_id is None:
        raise NothingToChange
    subscription.next_version = None
    subscription.save(update_fields=["next_version"])
    relay_future(subscription, at)
    raise_version(organization)
    _audit(organization, by, "plan.change_undone", subscription.version.plan.slug, at)
    return subscription


def _upgrade(
    organization: Organization,
    subscription: Subscription,
    version: PlanVersion,
    at: datetime,
) -> None:
    trial_ends_at = subscription.trial_ends_at
    if subscription.version.is_free:
        trial_ends_at = _trial_end(organization, version, at)
        if trial_ends_at is None:
            raise PaymentNeeded
        subscription.status = SubscriptionStatus.TRIALING
    old, subscription.version, subscription.next_version = subscription.version, version, None
    subscription.trial_ends_at, subscription.cancels_at = trial_ends_at, None
    subscription.save(
        update_fields=[
            "version",
            "next_version",
            "trial_ends_at",
            "status",
            "cancels_at",
        ]
    )
    record_event(subscription, SubscriptionEventKind.PLAN_CHANGED, at=at, previous_version=old)
    begin_anew(subscription, at=at)


def _resume_after_trial(subscription: Subscription, at: datetime) -> None:
    """Where a trial has ended without payment, months begin now; until now the door was closed, which the log has to say."""
    if subscription.status != SubscriptionStatus.TRIALING or not _is_past(subscription.trial_ends_at, at):
        return
    _take_next(subscription, at)
    if subscription.status == SubscriptionStatus.TRIALING:  # on Free it has become active: nothing was closed
        record_trial_end(subscription, at=at)
        begin_anew(subscription, at=at)


def begin_anew(subscription: Subscription, *, at: datetime) -> None:
    """Close the present period and begin another with an anchor of its own."""
    subscription.periods.filter(starts_at__gte=at).delete()
    subscription.periods.filter(ends_at__gt=at).update(ends_at=at)
    lay_periods(subscription, start=at)


def _trial_end(organization: Organization, version: PlanVersion, at: datetime) -> datetime | None:
    """The end of a trial that would start now; None where there is none, or where one was already had."""
    had_one = organization.subscriptions.exclude(trial_ends_at=None).exists()
    # A whole second, as collectors count.
    end = at.replace(microsecond=0) + timedelta(days=version.trial_days)
    return end if version.trial_days and not had_one else None


def _open_subscription(organization: Organization, at: datetime) -> Subscription | None:
    return organization.subscriptions.filter(ended_at=None).first()


def _is_open(subscription: Subscription, at: datetime) -> bool:
    """Whether calls of this subscription may pass now, as far as its own state says."""
    if subscription.ended_at is not None or _is_past(subscription.cancels_at, at):
        return False
    trial_over = subscription.trial_ends_at is not None and subscription.trial_ends_at <= at
    return not (subscription.status == SubscriptionStatus.TRIALING and trial_over)


def _is_past(moment: datetime | None, at: datetime) -> bool:
    return moment is not None and moment <= at


def _period_at(subscription: Subscription, at: datetime) -> Period:
    return subscription.periods.filter(starts_at__lte=at).select_related("version").latest("starts_at")


def lock_organization(organization: Organization) -> Organization:
    """Acts on one organization's plan run one after another. Its key stays free: new rows that refer to the organization do not
    wait (the order of locks is in docs/architecture.md)."""
    return Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)


def reread_locked(subscription: Subscription) -> Subscription:
    """The subscription as it is now, locked with its organization: what the caller holds may be outdated."""
    organization = lock_organization(subscription.organization)
    rows = Subscription.objects.for_organization(organization).select_related("version__plan", "organization")
    return rows.select_for_update(of=("self",)).get(pk=subscription.pk)


def _check_on_sale(version: PlanVersion, organization: Organization) -> None:
    """A private plan is sold to its customer only."""
    if version.state != VersionState.PUBLISHED or version.plan.organization_id not in (None, organization.pk):
        raise VersionNotOnSale


def _yearly(version: PlanVersion) -> int:
    return version.fee_minor * (MONTHS_A_YEAR // version.fee_months)


def _audit(
    organization: Organization | None,
    by: User | None,
    action: str,
    target: str,
    at: datetime,
    **details: str,
) -> None:
    AuditEvent.objects.create(
        organization=organization,
        by=by,
        action=action,
        target=target,
        at=at,
        details=details,
    )
