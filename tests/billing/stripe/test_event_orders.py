"""R10: each event of a customer's first month ten times, in random orders, on four connections at once: one final state."""

import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection

from billing.models import PaymentEntry, StripeInvoice, StripeSubscription
from plans.models import Subscription, SubscriptionEvent
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.payer import Payer
from tests.billing.stripe.test_webhooks import SECRET, events, post
from tests.eager import tasks_at_once

pytestmark = pytest.mark.django_db(transaction=True)
ORDERS = int(os.environ.get("FAREBOX_STRIPE_ORDERS", "3"))  # `figures` asks for more


@pytest.fixture
def payer(stripe_standin: Standin, settings: LazySettings) -> Iterator[Payer]:
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    with tasks_at_once():
        yield Payer.start(stripe_standin)


def deliver(told: list[dict[str, Any]]) -> set[int]:
    """Four senders, as Stripe has; an answer of 500 would be sent again, so none may come."""

    def share(number: int) -> set[int]:
        try:
            return {post(event) for event in told[number::4]}
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        return set().union(*pool.map(share, range(4)))


@pytest.mark.parametrize("order", range(ORDERS))
def test_any_order_leads_to_one_state(payer: Payer, order: int) -> None:
    payer.fill_in(payer.checkout())
    payer.pass_time(timedelta(days=14, hours=2))
    told = events() * 10
    random.Random(order).shuffle(told)

    assert deliver(told) == {200}

    assert (StripeSubscription.objects.get().status, Subscription.objects.count()) == ("active", 1)
    assert SubscriptionEvent.objects.filter(kind="started").count() == 1
    assert sorted(StripeInvoice.objects.values_list("state", "total_minor")) == [("paid", 0), ("paid", 4_900)]
    assert list(PaymentEntry.objects.values_list("kind", "amount_minor")) == [("paid", 4_900)]
