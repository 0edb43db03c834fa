"""Acts of collectors that charge by themselves: what is paid from when on, and that it has ended.

A collector's periods begin at whole seconds that it chooses; ours take them over, so that both bill the same months.
"""

from datetime import datetime, timedelta

from django.db import transaction

from accounts.models import AuditEvent, Organization, User
from plans.history import record_end, record_event, record_trial_end
from plans.laying import lay_periods
from plans.models import Period, PlanVersion, Subscription, SubscriptionEventKind, SubscriptionStatus
from plans.services import NothingToChange, begin_anew, carry_out_end, lock_organization, reread_locked
from plans.versions import raise_version

_KIND = SubscriptionEventKind


@transaction.atomic
def subscribe_paid(
    *,
    organization: Organization,
    version: PlanVersion,
    starts_at: datetime,
    trial_ends_at: datetime | None,
    by: User | None,
    at: datetime,
) -> Subscription:
    """Somebody pays for this version: from `starts_at` on, or from the end of a trial. The organization's subscription of
    now is turned into it (its trial ends, its free plan is left, its closed door opens), or there is a new one.

    Repeating it changes nothing.
    """
    organization = lock_organization(organization)
    subscription = organization.subscriptions.filter(ended_at=None).select_related("version").first()
    if subscription is not None:
        subscription = reread_locked(subscription)
        carry_out_end(subscription, at=at)
    if subscription is None or subscription.ended_at is not None:
        return _start(organization, version, starts_at, trial_ends_at, by, at)
    _turn(subscription, version, starts_at, trial_ends_at)
    raise_version(organization)
    _audit(subscription, by, "subscription.paid", at, plan=version.plan.slug)
    return subscription


@transaction.atomic
def end_subscription(*, subscription: Subscription, by: User | None, at: datetime) -> Subscription:
    """It is over at once: calls are refused with 402 `subscription_cancelled` from the next one on. Repeating it changes
    nothing."""
    subscription = reread_locked(subscription)
    if subscription.ended_at is not None:
        return subscription
    end = max(at, subscription.started_at)
    subscription.periods.filter(starts_at__gte=end).delete()
    subscription.periods.filter(ends_at__gt=end).update(ends_at=end)
    was, subscription.status, subscription.ended_at = subscription.status, SubscriptionStatus.CANCELLED, end
    subscription.cancels_at = subscription.next_version = None
    subscription.save(update_fields=["status", "ended_at", "cancels_at", "next_version"])
    record_end(subscription, was=was, at=end)
    raise_version(subscription.organization)
    _audit(subscription, by, "subscription.ended", at)
    return subscription


@transaction.atomic
def pause_subscription(*, subscription: Subscription, by: User | None, at: datetime) -> Subscription:
    """The collector asks for nothing until it is resumed (a trial ended without a card, or somebody paused it there): calls are
    refused with 402 `subscription_paused`, and months that lie in the pause cost nothing. `at` is when it began. Raises
    NothingToChange."""
    subscription = reread_locked(subscription)
    if subscription.ended_at is not None or subscription.status == SubscriptionStatus.PAUSED:
        raise NothingToChange("Only a running subscription can be paused.")
    subscription.status, subscription.past_due_since = SubscriptionStatus.PAUSED, None
    subscription.save(update_fields=["status", "past_due_since"])
    record_event(subscription, _KIND.PAUSED, at=at)
    raise_version(subscription.organization)
    _audit(subscription, by, "subscription.paused", at)
    return subscription


@transaction.atomic
def resume_subscription(
    *, subscription: Subscription, starts_at: datetime, by: User | None, at: datetime
) -> Subscription:
    """The pause is over: calls pass from now on. `starts_at` is the start of the collector's present period; where none of ours
    begins then, months begin anew with it. Repeating it changes nothing."""
    subscription = reread_locked(subscription)
    if subscription.ended_at is not None or subscription.status != SubscriptionStatus.PAUSED:
        return subscription
    subscription.status = SubscriptionStatus.ACTIVE
    subscription.save(update_fields=["status"])
    paused = subscription.events.filter(kind=_KIND.PAUSED).latest("at", "pk")
    is_new = starts_at > paused.at and not subscription.periods.filter(starts_at=starts_at).exists()
    if is_new:
        starts_at = _after_present(subscription, starts_at)
        begin_anew(subscription, at=starts_at)
    record_event(subscription, _KIND.RESUMED, at=starts_at if is_new else max(at, paused.at))
    raise_version(subscription.organization)
    _audit(subscription, by, "subscription.resumed", at)
    return subscription


@transaction.atomic
def end_period(*, subscription: Subscription, by: User | None, at: datetime) -> Period:
    """Let the present period end at this moment, and months of a new anchor begin: the demo's clock. The period that ended."""
    subscription = reread_locked(subscription)
    present = subscription.periods.filter(starts_at__lt=at).latest("starts_at")
    if subscription.trial_ends_at is not None and subscription.trial_ends_at > at:
        subscription.trial_ends_at = at
        subscription.save(update_fields=["trial_ends_at"])
    begin_anew(subscription, at=at)
    raise_version(subscription.organization)
    _audit(subscription, by, "period.ended_early", at)
    return Period.objects.select_related("organization", "version__plan").get(pk=present.pk)


def _start(
    organization: Organization, version: PlanVersion, starts_at: datetime, trial_ends_at: datetime | None,
    by: User | None, at: datetime,
) -> Subscription:  # fmt: skip
    last = organization.subscriptions.order_by("-ended_at").first()
    start = max(starts_at, last.ended_at) if last is not None and last.ended_at is not None else starts_at
    subscription = Subscription.objects.create(
        organization=organization,
        version=version,
        status=SubscriptionStatus.ACTIVE,
        started_at=start,
        trial_ends_at=trial_ends_at,
    )
    lay_periods(subscription, start=start)
    record_event(subscription, _KIND.STARTED, at=start)
    raise_version(organization, is_new=last is None)
    _audit(subscription, by, "subscription.started", at, plan=version.plan.slug)
    return subscription


def _turn(
    subscription: Subscription, version: PlanVersion, starts_at: datetime, trial_ends_at: datetime | None
) -> None:
    """Another version, or the end of a trial, begins months of its own; a trial that goes on keeps its period, and so does
    a month that is collected by hand: to the collector it is a trial until its end."""
    old, was, trial_was = subscription.version, subscription.status, subscription.trial_ends_at
    is_same, in_trial = old.pk == version.pk, was == SubscriptionStatus.TRIALING
    by_hand = is_same and not in_trial and _present(subscription, starts_at).ends_at == trial_ends_at
    goes_on = by_hand or is_same and (trial_ends_at == trial_was if trial_ends_at else not in_trial)
    if by_hand:
        trial_ends_at = trial_was
    if was == SubscriptionStatus.TRIALING and trial_was is not None and trial_was <= starts_at:
        record_trial_end(subscription, at=starts_at)  # the door was closed since, which costs nothing
    if trial_ends_at is None and trial_was is not None:
        trial_ends_at = min(trial_was, starts_at)
    subscription.version, subscription.next_version = version, None
    subscription.status, subscription.trial_ends_at = SubscriptionStatus.ACTIVE, trial_ends_at
    subscription.cancels_at = subscription.past_due_since = None
    subscription.save(
        update_fields=["version", "next_version", "status", "trial_ends_at", "cancels_at", "past_due_since"]
    )
    if not goes_on:
        starts_at = _after_present(subscription, starts_at)
        begin_anew(subscription, at=starts_at)
    if was == SubscriptionStatus.PAUSED:
        record_event(subscription, _KIND.RESUMED, at=starts_at)
    if was == SubscriptionStatus.TRIALING:
        record_event(subscription, _KIND.TRIAL_CONVERTED, at=starts_at, previous_version=_other(old, version))
    elif old.pk != version.pk:
        record_event(subscription, _KIND.PLAN_CHANGED, at=starts_at, previous_version=old)
    elif was not in (SubscriptionStatus.ACTIVE, SubscriptionStatus.PAUSED):
        record_event(subscription, _KIND.PAID, at=starts_at)


def _after_present(subscription: Subscription, starts_at: datetime) -> datetime:
    """The present period stays, were it only of a second: calls were counted in it."""
    present = _present(subscription, starts_at)
    if starts_at > present.starts_at:
        return starts_at
    return present.starts_at.replace(microsecond=0) + timedelta(seconds=1)


def _present(subscription: Subscription, at: datetime) -> Period:
    return subscription.periods.filter(ends_at__gt=at).earliest("starts_at")


def _other(old: PlanVersion, new: PlanVersion) -> PlanVersion | None:
    return old if old.pk != new.pk else None


def _audit(subscription: Subscription, by: User | None, action: str, at: datetime, **details: str) -> None:
    AuditEvent.objects.create(
        organization=subscription.organization,
        by=by,
        action=action,
        target=subscription.public_id,
        at=at,
        details=details,
    )
