"""Work that an event or an act only causes, done by a worker after the commit: whoever tells us of it waits for the state, not
for this. Tasks are named, not imported: they call what queues them (billing/tasks.py)."""

import structlog
from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

log = structlog.get_logger(__name__)


def later(task: str, *args: str | int) -> None:
    """Queue this task of billing/tasks.py when the transaction is stored. A broker that is away loses it: each such task is
    found again by the nightly comparison with Stripe, or by the next event."""
    transaction.on_commit(lambda: _hand_over(task, args))


def _hand_over(task: str, args: tuple[str | int, ...]) -> None:
    try:
        current_app.tasks[task].apply_async(args=args, retry=False)
    except (OperationalError, OSError) as error:
        log.warning("stripe_work_not_queued", task=task, args=args, error=type(error).__name__)
