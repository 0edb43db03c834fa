"""Telling Stripe the outbox of usage: each row's effect once, in order for each customer and meter.

A row is claimed (`sending`, committed) before its request, so that a crash leaves a row of unknown fate, never one that
looks unsent. A row of unknown fate is repeated with its identifier while Stripe surely still knows that (it keeps them
for at least 24 hours); later it is compared with what Stripe counted (billing/stripe/unknown.py).
"""

import random
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Coalesce

from accounts.models import Organization
from billing.models import FindingKind, StripeUsage, UsageState
from billing.stripe.client import is_configured
from billing.stripe.findings import close_finding, open_finding
from billing.stripe.outbox import TAKEN_FOR, refuse
from billing.stripe.sink import Answer, Fate, MeterEvent, StripeSink, UsageSink
from billing.stripe.unknown import REPEAT_FOR, compare_unknown
from core.any_of import any_of

log = structlog.get_logger(__name__)

BATCH = 64
# Longer than a batch takes when every request of it times out; found `sending` later: its sender is gone.
SENDING_TIMEOUT = timedelta(minutes=5)
LONGEST_WAIT_SECONDS = 900
KEY_FINDING = "api_key"

# The first unfinished row of each customer and meter, if nothing of them is under way. A row that has to be compared
# first holds nobody back. `NOT state IN (...)` is the condition of the index of unfinished rows.
_CLAIM = """
SELECT u.id FROM billing_stripeusage u
WHERE NOT u.state IN ('sent', 'refused') AND u.next_attempt_at <= %(at)s
    AND (u.state = 'pending' OR u.state = 'unknown' AND u.first_attempt_at > %(repeat_since)s)
    AND (%(organizations)s::bigint[] IS NULL OR u.organization_id = ANY(%(organizations)s))
    AND NOT EXISTS (
        SELECT FROM billing_stripeusage e
        WHERE NOT e.state IN ('sent', 'refused') AND e.organization_id = u.organization_id AND e.meter_id = u.meter_id
            AND e.id <> u.id AND (
                e.state = 'sending'
                OR e.id < u.id AND (e.state = 'pending' OR e.state = 'unknown' AND e.first_attempt_at > %(repeat_since)s)
            )
    )
ORDER BY u.next_attempt_at, u.id LIMIT %(limit)s
FOR UPDATE OF u SKIP LOCKED
"""


@dataclass(slots=True)
class Sent:
    """What a run did, rows by outcome; `is_stopped`: Stripe is away or lets nobody in, and the run ended early."""

    counts: Counter[str] = field(default_factory=Counter)
    is_stopped: bool = False

    def __str__(self) -> str:
        names = ("sent", "waiting", "unknown", "refused", "compared")
        return ", ".join(f"{self.counts[name]} {name}" for name in names)


def send_usage(
    *,
    at: datetime,
    limit: int | None = None,
    organizations: Iterable[Organization] | None = None,
    sink: UsageSink | None = None,
) -> Sent:
    """Tell what is due, at most `limit` rows, of all customers or of these. Safe to run at any time, also twice at once;
    must not run inside a transaction. Does nothing without a Stripe key."""
    done = Sent()
    if sink is None and not is_configured():
        return done
    sink, clock = sink or StripeSink(), _Clock(at)
    of = None if organizations is None else [one.pk for one in organizations]
    done.counts["unknown"] += recover(at=at)
    done.counts["compared"] += compare_unknown(sink, at=at, organization_ids=of)
    done.counts["refused"] += _refuse_old(at)
    pace = _Pace(settings.STRIPE_USAGE_CALLS_PER_SECOND)
    with ThreadPoolExecutor(settings.STRIPE_USAGE_CONCURRENCY) as pool:
        left = limit
        while not done.is_stopped and left != 0:
            rows = claim(
                at=clock.now(), limit=BATCH if left is None else min(BATCH, left), organization_ids=of
            )
            if not rows:
                break
            left = None if left is None else left - len(rows)
            _send_batch(rows, sink, pool, pace, clock, done)
    if not done.is_stopped and done.counts["sent"]:
        close_finding(kind=FindingKind.USAGE, subject=KEY_FINDING, at=at)
    return done


@transaction.atomic(durable=True)
def claim(
    *, at: datetime, limit: int = BATCH, organization_ids: Collection[int] | None = None
) -> list[StripeUsage]:
    """Take rows that are due and mark them as being sent; committed before anything is told. Each row is as it was before:
    `first_attempt_at` empty means that it surely has not reached Stripe yet."""
    scope: dict[str, Any] = {
        "at": at,
        "repeat_since": at - REPEAT_FOR,
        "limit": limit,
        "organizations": None if organization_ids is None else list(organization_ids),
    }
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, scope)
        ids = [row[0] for row in cursor.fetchall()]
    if not ids:
        return []
    related = ("meter", "organization__stripe_customer")
    rows = list(StripeUsage.objects.filter(pk__in=any_of(ids)).select_related(*related).order_by("pk"))
    StripeUsage.objects.filter(pk__in=any_of(ids)).update(
        state=UsageState.SENDING,
        attempts=F("attempts") + 1,
        attempted_at=at,
        first_attempt_at=Coalesce("first_attempt_at", at),
    )
    return rows


def recover(*, at: datetime) -> int:
    """Rows whose sender has crashed have an unknown fate; how many."""
    lost = StripeUsage.objects.filter(state=UsageState.SENDING, attempted_at__lt=at - SENDING_TIMEOUT)
    count = lost.update(
        state=UsageState.UNKNOWN, next_attempt_at=at, error="The sender ended before the answer."
    )
    if count:
        log.warning("stripe_usage_recovered", rows=count)
    return count


def backoff(attempts: int) -> timedelta:
    """Wait before the next attempt: doubling from 2 s up to a quarter of an hour, a random half of it more or less."""
    wait = min(2.0 ** min(attempts, 20), LONGEST_WAIT_SECONDS)
    return timedelta(seconds=wait * random.uniform(0.5, 1))  # noqa: S311  # spreads load, guards nothing


def _refuse_old(at: datetime) -> int:
    old = StripeUsage.objects.filter(state=UsageState.PENDING, stamped_at__lte=at - TAKEN_FOR)
    return sum(
        refuse(row, "Older than 35 days: Stripe takes it no more. Bill it by hand.", at=at)
        for row in old.select_related("meter")
    )


def _send_batch(
    rows: Sequence[StripeUsage], sink: UsageSink, pool: ThreadPoolExecutor, pace: "_Pace", clock: "_Clock", done: Sent
) -> None:  # fmt: skip
    """Requests run in threads, the database is this thread's. When none of them got through, the run is over."""
    under_way: dict[Future[Answer], StripeUsage] = {}
    for row in rows:
        pace.wait()
        under_way[pool.submit(_ask, sink, _event(row))] = row
    got_through = False
    for answered in as_completed(under_way):
        row, answer = under_way[answered], answered.result()
        done.counts[_record(row, answer, clock.now())] += 1
        got_through = got_through or answer.fate in (Fate.SENT, Fate.KNOWN, Fate.REFUSED)
    done.is_stopped = not got_through


def _ask(sink: UsageSink, event: MeterEvent) -> Answer:
    """Whatever goes wrong in a sink, the row's fate is unknown then."""
    try:
        return sink.send(event)
    except Exception as error:
        log.exception("stripe_usage_failed", identifier=event.identifier, error=type(error).__name__)
        return Answer(Fate.UNKNOWN, type(error).__name__)


def _event(row: StripeUsage) -> MeterEvent:
    customer = row.organization.stripe_customer.stripe_id
    return MeterEvent(row.meter.event_name, customer, row.identifier, row.value, row.stamped_at)


def _record(row: StripeUsage, answer: Answer, at: datetime) -> str:
    """Write down what became of a claimed row; the name that it is counted by."""
    own = StripeUsage.objects.filter(pk=row.pk)
    if answer.fate in (Fate.SENT, Fate.KNOWN):
        own.update(state=UsageState.SENT, sent_at=at, error="")
        return "sent"
    if answer.fate == Fate.REFUSED:
        refuse(row, answer.error, at=at, is_fate_known=row.first_attempt_at is None)
        return "refused"
    # Another sender may have taken a row over whose answer came very late.
    ours = own.filter(state=UsageState.SENDING, attempts=row.attempts + 1)
    waits = {"next_attempt_at": at + backoff(row.attempts + 1), "error": answer.error}
    if answer.fate == Fate.UNKNOWN or row.first_attempt_at is not None:
        ours.update(state=UsageState.UNKNOWN, **waits)
    else:
        ours.update(state=UsageState.PENDING, first_attempt_at=None, **waits)
    if answer.fate == Fate.LOCKED_OUT:
        open_finding(
            kind=FindingKind.USAGE,
            subject=KEY_FINDING,
            text=f"Stripe lets no usage in: {answer.error}",
            at=at,
        )
    return "unknown" if answer.fate == Fate.UNKNOWN else "waiting"


class _Clock:
    """`at`, and the time that the run has taken since."""

    def __init__(self, at: datetime) -> None:
        self._at, self._started = at, time.monotonic()

    def now(self) -> datetime:
        return self._at + timedelta(seconds=time.monotonic() - self._started)


class _Pace:
    """At most so many calls a second, evenly spread."""

    def __init__(self, per_second: int) -> None:
        self._gap, self._next = 1 / max(per_second, 1), time.monotonic()

    def wait(self) -> None:
        now = time.monotonic()
        if self._next > now:
            time.sleep(self._next - now)
        self._next = max(self._next, now) + self._gap
