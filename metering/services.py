"""Acts on the ledger that are not the drain's: history, sweeping, telling staff."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby, islice

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.template.loader import render_to_string

from accounts.models import Organization, User
from core.clock import to_micros
from core.errors import PortalError
from core.redis_layout import SHARDS
from metering.corrections import apply_corrections, find_epoch
from metering.drain import BATCH
from metering.engine import Engine
from metering.entries import Entry, read_event
from metering.events import BadEvent, Event
from metering.ledger import Stored, Uncounted, lock_shard, store_entries
from metering.reconcile import Reconciliation
from metering.reconcile_report import as_table

HISTORY = "history"


class HistoryRefused(PortalError):
    code, status, title = "history_refused", 400, "This event is not one that the ledger takes"


def ingest_history(events: Iterable[Event], *, at: datetime) -> Stored:
    """Load past usage through the code that stores every event, in parts of some thousands that each pass or fail whole.

    An event that the ledger has already (same id and time) is skipped and counts nowhere twice. The counters of periods
    that are still open are told. Raises HistoryRefused at the first event that the ledger would not take.
    """
    shards = dict(Organization.objects.values_list("pk", "shard"))
    total, source = Stored(), iter(events)
    while part := list(islice(source, BATCH)):
        part.sort(key=lambda event: shards[event.organization_id])
        for shard, group in groupby(part, key=lambda event: shards[event.organization_id]):
            total += _ingest_part(shard, [_history_entry(event, n, at) for n, event in enumerate(group)], at)
    return total


def _ingest_part(shard: int, entries: Sequence[Entry], at: datetime) -> Stored:
    with transaction.atomic():
        lock_shard(shard, wait=True)
        stored = store_entries(shard, entries, uncounted=Uncounted(find_epoch(shard), HISTORY))
        if stored.dead:
            raise HistoryRefused("The database refused an event; nothing of its part was stored.")
    with transaction.atomic():
        lock_shard(shard, wait=True)
        apply_corrections(shard, at=at)
    return stored


def _history_entry(event: Event, number: int, at: datetime) -> Entry:
    """As if it had come through a stream of its own; without a number, because no settle gave it one."""
    payload = event.to_json()
    try:
        return Entry(
            f"{to_micros(at) // 1000}-{number}", payload, HISTORY, 0, read_event(payload, received_at=at)
        )
    except BadEvent as error:
        raise HistoryRefused(str(error)) from error


def sweep_reservations() -> int:
    """Give back reservations that expired; how many. Raises MeteringUnavailable."""
    engine = Engine()
    return sum(engine.sweep(shard) for shard in range(SHARDS))


def tell_staff_of_differences(outcome: Reconciliation) -> int:
    """Mail the differences of a reconciliation to the staff; how many people were told."""
    staff = User.objects.filter(is_staff=True, is_active=True)
    addresses = settings.STAFF_EMAILS or list(staff.values_list("email", flat=True))
    if outcome.is_equal or not addresses:
        return 0
    context = {
        "outcome": outcome,
        "table": as_table(outcome),
        "brand_name": settings.BRAND_NAME,
        "portal_url": settings.PORTAL_URL,
    }
    subject = render_to_string("emails/differences-subject.txt", context).strip()
    body = render_to_string("emails/differences-body.txt", context)
    send_mail(subject, body, settings.DEFAULT_FROM_EMAIL, addresses)
    return len(addresses)
