"""Dead letters: entries that could not be stored. Each can be mended and replayed; then it is a row like any other."""

from datetime import datetime

from django.db import transaction

from core.errors import PortalError
from metering.corrections import apply_corrections, find_epoch
from metering.entries import Entry, read_event
from metering.events import BadEvent
from metering.ledger import DATA_ERRORS, Uncounted, first_line, lock_shard, store_entry
from metering.models import DeadLetter


class ReplayRefused(PortalError):
    code, status, title = "replay_refused", 409, "This event still cannot be stored"


@transaction.atomic
def replay_dead_letter(*, letter: DeadLetter, at: datetime, payload: str | None = None) -> DeadLetter:
    """Store a dead letter's event, mended when `payload` is given, under its own number; a second time does nothing.

    Raises ReplayRefused with the reason when it still is no event that the ledger takes, or RedisError.
    """
    lock_shard(letter.shard, wait=True)
    letter = DeadLetter.objects.select_for_update().get(pk=letter.pk)
    if letter.replayed_at is not None:
        return letter
    if payload is not None:
        letter.payload = payload
    _store(letter)
    letter.replayed_at = at
    letter.save(update_fields=["payload", "replayed_at"])
    shard = letter.shard
    transaction.on_commit(lambda: _correct(shard, at))
    return letter


def _store(letter: DeadLetter) -> None:
    """Its settle counted it, unless the counters were rebuilt (under another epoch) since: from rows, without this one."""
    epoch = find_epoch(letter.shard)
    uncounted = None if epoch and epoch == letter.epoch else Uncounted(epoch, "replay")
    payload = letter.payload.encode()
    try:
        event = read_event(payload, received_at=letter.received_at)
        entry = Entry(letter.stream_id, payload, letter.epoch, letter.seq, event)
        store_entry(letter.shard, entry, uncounted=uncounted)
    except BadEvent as error:
        raise ReplayRefused(str(error)) from error
    except DATA_ERRORS as error:
        raise ReplayRefused(first_line(error)) from error


def _correct(shard: int, at: datetime) -> None:
    with transaction.atomic():
        if lock_shard(shard):  # otherwise the drainer that is at it, or the next, does it
            apply_corrections(shard, at=at)
