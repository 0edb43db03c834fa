"""Recurring work on the ledger. Each may be repeated at any time: what was done is not done again.

Without Redis or PostgreSQL a tick does nothing and the next one tries again; the stream keeps the events meanwhile.
"""

from typing import Any

import structlog
from celery import shared_task
from django.db import DatabaseError
from redis.exceptions import RedisError

from core.clock import now
from metering.alerts import delivery
from metering.alerts.rounds import evaluate_changed
from metering.cuts import DrainStuck
from metering.drain import drain_all
from metering.engine import MeteringUnavailable
from metering.partitions import ensure_partitions
from metering.reconcile import reconcile as reconcile_all
from metering.refusals import drain_refusals as store_refusals
from metering.services import sweep_reservations, tell_staff_of_differences
from plans.versions import push_pending

log = structlog.get_logger(__name__)
AWAY = (RedisError, MeteringUnavailable, DatabaseError)


@shared_task(name="metering.drain")
def drain() -> None:
    _unless_away("drain", lambda: drain_all(at=now()))


@shared_task(name="metering.push_states")
def push_states() -> None:
    _unless_away("push_states", push_pending)


@shared_task(name="metering.sweep")
def sweep() -> None:
    _unless_away("sweep", sweep_reservations)


@shared_task(name="metering.drain_refusals")
def drain_refusals() -> None:
    _unless_away("drain_refusals", store_refusals)


@shared_task(name="metering.make_partitions")
def make_partitions() -> None:
    made = ensure_partitions(now().date())
    log.info("partitions_made", months=[month.isoformat() for month in made])


@shared_task(name="metering.evaluate_alerts")
def evaluate_alerts() -> None:
    _unless_away("evaluate_alerts", lambda: evaluate_changed(at=now()))


@shared_task(name="metering.deliver_notices")
def deliver_notices() -> None:
    """A task for each webhook that is due: a slow receiver holds up nobody else's."""
    for delivery_id in delivery.due_deliveries(at=now()):
        deliver_notice.delay(delivery_id)


@shared_task(name="metering.deliver_notice")
def deliver_notice(delivery_id: int) -> None:
    delivery.deliver(delivery_id, at=now())


@shared_task(name="metering.reconcile", autoretry_for=(DrainStuck, *AWAY), retry_backoff=60, max_retries=5)
def reconcile() -> None:
    """Nightly: mails the staff when something is not equal; also when it could not be found out after some tries."""
    outcome = reconcile_all(at=now())
    for difference in outcome.differences:
        log.error("usage_differs", difference=str(difference))
    tell_staff_of_differences(outcome)


def _unless_away(task: str, work: Any) -> None:
    try:
        work()
    except AWAY as error:
        log.warning("ledger_server_away", task=task, error=f"{type(error).__name__}: {error}"[:200])
