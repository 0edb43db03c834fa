"""R10: each event of a customer's first month ten times, in random orders, on four connections at once: one final state.

What the state has to be is what the same events lead to, told once and in their order. Every second customer's card fails.
"""

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.mail import EmailMessage
from django.db import connection

from accounts.models import Role
from billing.models import PaymentEntry, StripeInvoice, StripeSubscription
from billing.stripe.client import stripe_client
from plans.models import Subscription, SubscriptionEvent
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.counts import Record, parts, words
from tests.billing.stripe.payer import FAILS_LATER, GOOD, Payer
from tests.billing.stripe.test_webhooks import SECRET, post
from tests.eager import tasks_at_once
from tests.factories import create_membership

pytestmark = pytest.mark.django_db(transaction=True)
TIMES = 10
Told = list[dict[str, Any]]


@pytest.fixture
def standin(stripe_standin: Standin, settings: LazySettings) -> Iterator[Standin]:
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    with tasks_at_once():
        Payer.start(stripe_standin)
        yield stripe_standin


def first_month(payer: Payer, card: str) -> Told:
    """What Stripe has to tell of a sign-up, a trial and the first payment, oldest first."""
    create_membership(organization=payer.organization, role=Role.OWNER)
    since = int(payer.at.timestamp())
    payer.fill_in(payer.checkout(), card)
    payer.pass_time(timedelta(days=14, hours=2))
    found = stripe_client().v1.events.list({"limit": 100, "created": {"gte": since}}).auto_paging_iter()
    told = [event.to_dict(for_json=True) for event in found]
    return [event for event in told[::-1] if payer.customer_id in json.dumps(event)]


def deliver(told: Told) -> set[int]:
    """Four senders, as Stripe has; an answer of 500 would be sent again, so none may come."""

    def share(number: int) -> set[int]:
        try:
            return {post(event) for event in told[number::4]}
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        return set().union(*pool.map(share, range(4)))


def state(payer: Payer) -> dict[str, list[Any]]:
    """All that the events made."""
    organization = payer.organization
    at_stripe = StripeSubscription.objects.for_organization(organization)
    ours = Subscription.objects.for_organization(organization)
    happened = SubscriptionEvent.objects.filter(subscription__in=ours)
    invoices = StripeInvoice.objects.for_organization(organization)
    timeline = PaymentEntry.objects.filter(organization=organization)
    return {
        "at Stripe": list(at_stripe.values_list("status", "version__plan__slug", "ended_at")),
        "ours": list(ours.values_list("status", "version__plan__slug", "ended_at")),
        "happened": sorted(happened.values_list("kind", flat=True)),
        "invoices": sorted(invoices.values_list("state", "total_minor", "due_minor")),
        "timeline": sorted(timeline.values_list("kind", "amount_minor")),
    }


def are_right(mails: list[str], card: str) -> bool:
    """Nobody hears of one thing twice, of a debt who has none, or of the end of one that goes on."""
    is_told = [
        sum("is overdue" in subject for subject in mails),
        sum("Thank you" in subject for subject in mails),
    ]
    return len(set(mails)) == len(mails) and is_told == ([0, 0] if card == GOOD else [1, 0])


def begin_again(payer: Payer, mails: list[EmailMessage]) -> None:
    if StripeSubscription.objects.for_organization(payer.organization).filter(ended_at=None).exists():
        payer.leave()
    mails.clear()


@pytest.mark.parametrize("part", parts("R10", usual=2, size=20), ids=words)
def test_any_order_leads_to_one_state(
    standin: Standin, part: range, mailoutbox: list[EmailMessage], record_property: Record
) -> None:
    wanted: dict[str, dict[str, list[Any]]] = {}
    told_once = 0
    for card in (GOOD, FAILS_LATER):
        payer = Payer.join(standin, f"In order {card}")
        assert {post(event) for event in first_month(payer, card)} == {200}
        wanted[card] = state(payer)
        begin_again(payer, mailoutbox)
    assert [len(one["timeline"]) for one in wanted.values()] == [1, 1]
    wrong = []
    for order in part:
        payer, card = Payer.join(standin, f"Order {order}"), (GOOD, FAILS_LATER)[order % 2]
        told = first_month(payer, card) * TIMES
        random.Random(order).shuffle(told)
        answers, found = deliver(told), state(payer)
        mails = sorted(str(mail.subject) for mail in mailoutbox)
        if answers != {200} or found != wanted[card]:
            wrong.append((order, answers, found))
        if are_right(mails, card):
            told_once += 1
        else:
            wrong.append((order, answers, {"mails": list(mails)}))
        begin_again(payer, mailoutbox)
        record_property("events", len(told))
    record_property("orders", len(part))
    record_property("alike", len(part) - len({order for order, *_ in wrong}))
    record_property("told_once", told_once)
    assert wrong == []
