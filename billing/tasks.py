"""Recurring work on documents and money. Each may run at any time and twice at once: what was done is not done again."""

from datetime import timedelta

import structlog
from celery import shared_task

from billing import collection, statements
from billing.credits import expire_credits as expire_all
from core.clock import EPOCH, now

log = structlog.get_logger(__name__)


@shared_task(name="billing.finalise_due")
def finalise_due() -> None:
    """What has just ended; once an hour also what was left behind, whenever it ended."""
    at = now()
    since = EPOCH if at.minute == 0 else at - timedelta(days=3)
    if made := statements.finalise_due(at=at, since=since):
        log.info("statements_finalised", count=made)


@shared_task(name="billing.adjust_ended")
def adjust_ended() -> None:
    statements.adjust_ended(at=now())


@shared_task(name="billing.expire_credits")
def expire_credits() -> None:
    expire_all(at=now())


@shared_task(name="billing.collect")
def collect() -> None:
    """What collection by hand does by itself: send, remind, suspend."""
    at = now()
    collection.send_invoices(at=at)
    collection.take_overdue(at=at)
    collection.end_grace(at=at)
