"""Usage of unknown fate, when repeating it is no longer safe: what Stripe counted in that hour tells what became of it.

Stripe counts with delay, so nothing is concluded from figures younger than `COUNTED_AFTER`; and only while no other row of
the customer, meter and hour is on its way, since its value could be mistaken for this one's.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple

from django.db import transaction
from django.db.models import Q, QuerySet, Sum

from billing.models import FindingKind, StripeUsage, UsageState
from billing.stripe.findings import close_finding
from billing.stripe.outbox import TAKEN_FOR, refuse, tell_finding
from billing.stripe.sink import UsageSink

# Stripe knows an identifier for at least 24 hours: repeated in this time, an event counts once.
REPEAT_FOR = timedelta(hours=23)
COUNTED_AFTER = timedelta(hours=1)
WAIT = timedelta(minutes=10)
HOURS_A_RUN = 100
HOUR = timedelta(hours=1)


class Hour(NamedTuple):
    """What Stripe's summaries tell apart."""

    organization_id: int
    meter_id: int
    hour: datetime


class Verdict(Enum):
    THERE = "there"
    MISSING = "missing"
    WAIT = "wait"
    UNDECIDED = "undecided"


def compare_unknown(sink: UsageSink, *, at: datetime, organization_ids: Collection[int] | None = None) -> int:
    """Settle rows of unknown fate that are too old to be repeated: sent, or pending again; how many. What cannot be told
    opens a finding and is compared again in an hour."""
    rows = StripeUsage.objects.filter(
        state=UsageState.UNKNOWN, first_attempt_at__lte=at - REPEAT_FOR, next_attempt_at__lte=at
    ).order_by("next_attempt_at", "pk")
    if organization_ids is not None:
        rows = rows.filter(organization_id__in=organization_ids)
    hours: dict[Hour, StripeUsage] = {}
    for row in rows.select_related("meter", "organization__stripe_customer")[: HOURS_A_RUN * 4]:
        hours.setdefault(Hour(row.organization_id, row.meter_id, row.hour), row)
    return sum(_compare(sink, hour, row, at) for hour, row in list(hours.items())[:HOURS_A_RUN])


def verdict(unknown: Sequence[int], *, sent: int, counted: int) -> Verdict:
    """What became of all rows of unknown fate of an hour. Only sums matter: where both answers give one sum, sending the
    rows again (or not) leaves the sum right either way. Pure."""
    if counted == sent + sum(unknown):
        return Verdict.THERE
    return Verdict.MISSING if counted == sent else Verdict.UNDECIDED


def _compare(sink: UsageSink, hour: Hour, row: StripeUsage, at: datetime) -> int:
    """The rows are read again after Stripe was asked: what changed meanwhile is looked at the next time."""
    before = _sent_when_quiet(hour, at)
    counted = None
    if before is not None:
        counted = sink.summary(
            meter=row.meter.stripe_id,
            customer=row.organization.stripe_customer.stripe_id,
            start=hour.hour,
            end=hour.hour + HOUR,
        )
    with transaction.atomic():
        unknown = list(_of(hour).filter(state=UsageState.UNKNOWN).select_for_update().select_related("meter"))
        if before is None or counted is None or _sent_when_quiet(hour, at) != before:
            found = Verdict.WAIT
        else:
            found = verdict([one.value for one in unknown], sent=before, counted=counted)
        return _settle(unknown, found, counted, at)


def _of(hour: Hour) -> QuerySet[StripeUsage]:
    return StripeUsage.objects.filter(
        organization_id=hour.organization_id, meter_id=hour.meter_id, hour=hour.hour
    )


def _sent_when_quiet(hour: Hour, at: datetime) -> int | None:
    """What was surely told of this hour; None while rows of it are on their way, or so new that Stripe may not count them."""
    fresh = at - COUNTED_AFTER
    moving = (
        Q(state=UsageState.SENDING)
        | Q(state=UsageState.SENT, sent_at__gt=fresh)
        | Q(state=UsageState.UNKNOWN, attempted_at__gt=fresh)
        | Q(state=UsageState.UNKNOWN, first_attempt_at__gt=at - REPEAT_FOR)
    )
    if _of(hour).filter(moving).exists():
        return None
    return _of(hour).filter(state=UsageState.SENT).aggregate(total=Sum("value"))["total"] or 0


def _settle(rows: Sequence[StripeUsage], found: Verdict, counted: int | None, at: datetime) -> int:
    own = StripeUsage.objects.filter(pk__in=[row.pk for row in rows])
    if found == Verdict.WAIT:
        own.update(next_attempt_at=at + WAIT)
        return 0
    if found == Verdict.UNDECIDED:
        own.update(next_attempt_at=at + HOUR)
        for row in rows:
            _give_to_people(row, counted, at)
        return 0
    if found == Verdict.THERE:
        own.update(state=UsageState.SENT, sent_at=at, error="")
    else:
        own.update(
            state=UsageState.PENDING, first_attempt_at=None, next_attempt_at=at, error="Stripe had not counted it."
        )  # fmt: skip
    for row in rows:
        close_finding(kind=FindingKind.USAGE, subject=row.identifier, at=at)
    return len(rows)


def _give_to_people(row: StripeUsage, counted: int | None, at: datetime) -> None:
    if row.stamped_at <= at - TAKEN_FOR:
        refuse(row, "Of unknown fate, and older than 35 days.", at=at)
        return
    text = "Nobody knows whether this usage was counted: Stripe's figure of the hour fits neither case."
    tell_finding(row, text, at=at, counted=counted)
