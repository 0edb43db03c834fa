"""Recurring work on subscriptions."""

from celery import shared_task

from core.clock import now
from plans import publishing, services


@shared_task(name="plans.roll_periods")
def roll_periods() -> None:
    services.roll_periods(at=now())


@shared_task(name="plans.publish_due_versions")
def publish_due_versions() -> None:
    publishing.publish_due(at=now())
