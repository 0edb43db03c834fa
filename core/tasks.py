"""Clearing up."""

from celery import shared_task

from core.clock import now
from core.idempotency import forget_answers


@shared_task(name="core.forget_answers")
def forget_kept_answers() -> None:
    """Answers kept for requests with an Idempotency-Key, after their day."""
    forget_answers(at=now())
