"""Acts at once, each in a thread with a connection of its own: what they answered, once all of them are done."""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Barrier, Thread

from django.db import connection

from billing.models import LineKind, StripeItem, StripeSubscription
from billing.stripe.client import plain, stripe_client
from core.errors import PortalError
from plans.models import Subscription
from tests.billing.stripe.payer import Payer

OPEN = ("trialing", "active", "past_due", "unpaid", "paused")


@dataclass
class Race:
    """`refused` are the answers that a person gets (PortalError); anything else is a defect and stays in `errors`."""

    done: int = 0
    refused: list[str] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)


def race(*acts: Callable[[], object]) -> Race:
    """Let all begin at the same moment."""
    result, start = Race(), Barrier(len(acts))

    def run(act: Callable[[], object]) -> None:
        try:
            start.wait(timeout=30)
            act()
            result.done += 1
        except PortalError as refused:
            result.refused.append(refused.code)
        except BaseException as error:
            result.errors.append(error)
        finally:
            connection.close()

    threads = [Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    return result


def open_at_stripe(payer: Payer) -> list[str]:
    """Ids of the customer's subscriptions that run at Stripe."""
    customer = payer.organization.stripe_customer.stripe_id
    found = stripe_client().v1.subscriptions.list({"customer": customer, "status": "all"})
    return [one.id for one in found.auto_paging_iter() if one.status in OPEN]


def assert_one_active(payer: Payer) -> None:
    """One subscription on each side, and they are the same one."""
    rows = StripeSubscription.objects.for_organization(payer.organization).filter(ended_at=None)
    assert [row.stripe_id for row in rows] == open_at_stripe(payer)
    assert rows.count() == 1
    assert Subscription.objects.for_organization(payer.organization).filter(ended_at=None).count() == 1


def credits_given(payer: Payer) -> int:
    """How often the unused fee was given back: our rows, which are Stripe's items."""
    customer = payer.organization.stripe_customer.stripe_id
    items = stripe_client().v1.invoice_items.list({"customer": customer}).auto_paging_iter()
    at_stripe = [one.id for one in items if plain(one)["metadata"].get("farebox_credit_of")]
    ours = StripeItem.objects.for_organization(payer.organization).filter(kind=LineKind.FEE_CREDIT)
    assert sorted(ours.values_list("stripe_id", flat=True)) == sorted(at_stripe)
    return len(at_stripe)


def server_deadlocks() -> int:
    """Deadlocks that PostgreSQL has resolved in this database so far; sessions tell of theirs when they end."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_stat_clear_snapshot(), deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
        return int(cursor.fetchone()[1])
