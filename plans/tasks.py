"""Recurring work on subscriptions."""

from celery import shared_task

from core.clock import now
from plans import services


@shared_task(name="plans.roll_periods")
def roll_periods() -> None:
    services.roll_periods(at=now())
