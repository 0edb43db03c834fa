"""The rows of a subscription's periods, laid by the planner (plans/tiling.py). Callers hold the organization's lock."""

from datetime import datetime

from plans.models import Period, Subscription
from plans.tiling import Laid, first_period, following

PERIODS_LAID_AHEAD = 2


def paid_until(period: Period) -> datetime:
    """When a change that waits takes effect: the end of the trial, of the month, or of the year that was paid for."""
    return _laid(period).paid_until


def lay_periods(subscription: Subscription, *, start: datetime) -> None:
    """The present period from `start` (a trial, or the first month of a new anchor) and those ahead."""
    version = subscription.version
    first = first_period(version.pk, version.fee_months, at=start, trial_ends_at=subscription.trial_ends_at)
    _make(subscription, first)
    lay_ahead(subscription, start)


def lay_ahead(subscription: Subscription, at: datetime) -> int:
    """Lay months after the last period until two begin after `at`; how many were made."""
    ahead = subscription.periods.filter(starts_at__gt=at).count()
    last = _laid(subscription.periods.select_related("version").latest("starts_at"))
    made = 0
    while ahead < PERIODS_LAID_AHEAD:
        last = _next(subscription, last)
        _make(subscription, last)
        made, ahead = made + 1, ahead + (last.starts_at > at)
    return made


def relay_future(subscription: Subscription, at: datetime) -> None:
    """Periods that have not begun are laid again: another version will rule them. Their rows and ids stay."""
    periods = subscription.periods.select_related("version")
    last = _laid(periods.filter(starts_at__lte=at).latest("starts_at"))
    moves = []
    for row in periods.filter(starts_at__gt=at).order_by("starts_at"):
        last = _next(subscription, last)
        moves.append((row, last))
    if any(planned.ends_at > row.ends_at for row, planned in moves):
        moves.reverse()  # the database lets no two overlap, not even for a moment
    for row, planned in moves:
        row.version_id, row.anchor = planned.version, planned.anchor
        row.starts_at, row.ends_at = planned.starts_at, planned.ends_at
        row.save(update_fields=["version", "anchor", "starts_at", "ends_at"])


def _next(subscription: Subscription, last: Laid) -> Laid:
    version, waiting = subscription.version, subscription.next_version
    if waiting is not None and (last.version == waiting.pk or last.paid_until == last.ends_at):
        version = waiting
    return following(last, version=version.pk, months=version.fee_months)


def _laid(period: Period) -> Laid:
    version = period.version
    return Laid(
        version.pk, version.fee_months, period.anchor, period.starts_at, period.ends_at, period.is_trial
    )


def _make(subscription: Subscription, laid: Laid) -> Period:
    return Period.objects.create(
        organization=subscription.organization,
        subscription=subscription,
        version_id=laid.version,
        anchor=laid.anchor,
        is_trial=laid.is_trial,
        starts_at=laid.starts_at,
        ends_at=laid.ends_at,
    )
