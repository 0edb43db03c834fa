"""Recurring work on documents and money. Each may run at any time and twice at once: what was done is not done again."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

import stripe
import structlog
from celery import shared_task
from django.db import transaction
from kombu.exceptions import OperationalError

from accounts.models import Organization
from billing import collection, simulator, statements
from billing.credits import expire_credits as expire_all
from billing.models import SimulationRun, SimulationState, StripeCustomer, StripeSubscription
from billing.stripe import (
    changes,
    compare,
    details,
    findings,
    items,
    lacking,
    prepaid,
    publishing,
    reconcile,
    sender,
    sync,
    upgrades,
    usage,
)
from billing.stripe.client import is_configured
from billing.stripe.customers import customer_lock
from billing.stripe.later import later
from core.clock import EPOCH, now

log = structlog.get_logger(__name__)
# Of requests that may succeed when they are repeated; they carry idempotency keys, or change nothing the second time.
AGAIN: dict[str, Any] = {
    "autoretry_for": (stripe.APIConnectionError, stripe.RateLimitError, stripe.APIError),
    "retry_backoff": 10,
    "max_retries": 6,
}
USAGE_A_RUN = 20_000  # rows: some minutes, well inside the time limit of a task; the next run goes on
SIMULATION_SECONDS = 570  # before the worker is killed at 600 s (CELERY_TASK_TIME_LIMIT), so that the run can say that it failed


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


def queue_simulation(run: SimulationRun) -> None:
    """Once the request for it is stored. Without a broker the run says that it failed; staff runs it again."""
    transaction.on_commit(lambda: _hand_over(run))


def _hand_over(run: SimulationRun) -> None:
    try:
        simulate.apply_async(args=(run.pk,), retry=False)
    except (OperationalError, OSError) as error:
        log.warning("simulation_not_queued", run=run.public_id, error=type(error).__name__)
        SimulationRun.objects.filter(pk=run.pk, state=SimulationState.QUEUED).update(
            state=SimulationState.FAILED, finished_at=now()
        )


@shared_task(name="billing.simulate", soft_time_limit=SIMULATION_SECONDS)
def simulate(run_id: int) -> None:
    """A run of the simulator that staff asked for; one that was deleted meanwhile asks for nothing."""
    run = SimulationRun.objects.select_related("version__plan", "plan").filter(pk=run_id).first()
    if run is not None and simulator.run_simulation(run=run, at=now(), clock=now):
        log.info("simulation_done", run=run.public_id, customers=len(run.outcomes))


@shared_task(name="billing.stripe_lay_out")
def stripe_lay_out() -> None:
    """Versions that Stripe does not have all prices of; asked again by beat until it has them."""
    publishing.lay_out_incomplete(at=now())


@shared_task(name="billing.stripe_check_catalogue")
def stripe_check_catalogue() -> None:
    """Once a night: what differs becomes a finding, and unused prices go off sale."""
    publishing.check_nightly(at=now())


@shared_task(name="billing.stripe_reconcile")
def stripe_reconcile() -> None:
    """Once a night: what lost webhooks hid is mended, the rest becomes findings; nothing without a Stripe key."""
    if not is_configured():
        return
    at = now()
    done = reconcile.mend_unlike(at=at)
    log.info("stripe_reconciled", mended=len(done.mended), left=len(done.left))
    compare.compare_again(at=at)
    lacking.check_waiting(at=at)
    findings.tell_staff(at=at)


@shared_task(name="billing.stripe_follow")
def stripe_follow() -> None:
    """After statements: our items onto Stripe's invoices, Stripe's invoices held against ours; nothing without a Stripe key."""
    if not is_configured():
        return
    at = now()
    sync.end_replaced()
    upgrades.follow_upgrades(at=at)
    changes.follow_plans(at=at)
    items.send_items(at=at)
    prepaid.use_credit(at=at)
    compare.compare_invoices(at=at)
    findings.tell_staff(at=at)


@shared_task(name="billing.stripe_usage")
def stripe_usage() -> None:
    """Tell Stripe what all customers used; nothing without a Stripe key."""
    at = now()
    usage.fill_usage(at=at)
    _log_sent(sender.send_usage(at=at, limit=USAGE_A_RUN))


@shared_task(name="billing.stripe_usage_ending")
def stripe_usage_ending() -> None:
    """The same for periods that end soon or ended just now; and what waits to be repeated."""
    at = now()
    usage.fill_ending(at=at)
    usage.fill_stated(at=at)
    _log_sent(sender.send_usage(at=at, limit=USAGE_A_RUN))


def _log_sent(done: sender.Sent) -> None:
    if done.counts.total():
        log.info("stripe_usage_sent", stopped=done.is_stopped, **done.counts)


@shared_task(name="billing.stripe_end_replaced", **AGAIN)
def stripe_end_replaced(stripe_id: str) -> None:
    """A subscription that another one has replaced ends at Stripe."""
    sync.end_at_stripe(stripe_id)


@shared_task(name="billing.stripe_refuse_second", **AGAIN)
def stripe_refuse_second(stripe_id: str, invoice_id: str) -> None:
    """What a second Checkout bought ends, and its payment goes back."""
    sync.refuse_second(stripe_id, invoice_id)


@shared_task(name="billing.stripe_resume", **AGAIN)
def stripe_resume(stripe_id: str) -> None:
    """A trial that was paused for want of a card goes on. A declined card leaves it paused: the next card tries again."""
    row = StripeSubscription.objects.get(stripe_id=stripe_id)
    try:
        with customer_lock(row.organization_id):
            sync.resume_with_card(stripe_id, at=now())
    except stripe.CardError as error:
        log.info("stripe_not_resumed", subscription=stripe_id, error=error.code)


@shared_task(name="billing.stripe_customer", **AGAIN)
def stripe_customer(organization_id: int) -> None:
    """A changed name or address becomes that of Stripe's customer."""
    with customer_lock(organization_id):
        details.tell_customer(Organization.objects.get(pk=organization_id), at=now())


def tell_customer_later(sender: Any, organization: Organization, **sent: Any) -> None:
    """Receiver of `account_changed`."""
    if is_configured() and StripeCustomer.objects.for_organization(organization).exists():
        later("billing.stripe_customer", organization.pk)


def lay_out_later(sender: Any, **sent: Any) -> None:
    """Receiver of `version_published`: tell Stripe after the commit, by a worker. A broker that is away is left to beat."""
    if is_configured():
        transaction.on_commit(_queue_laying_out)


def _queue_laying_out() -> None:
    with suppress(OperationalError, OSError):
        stripe_lay_out.apply_async(retry=False)
