"""From an event of Stripe to the door, through the webhook, PostgreSQL, Redis and the admission script: within a second, both ways."""

import os
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from statistics import median
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client

from accounts import tasks as account_tasks
from billing.stripe.client import stripe_client
from metering.drf import forget_cached
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.hearing import Ear
from tests.billing.stripe.payer import Payer
from tests.billing.stripe.test_lifecycle import take_card_away
from tests.billing.stripe.test_subscriptions import _use_card as use_card
from tests.billing.stripe.test_webhooks import SECRET, post
from tests.eager import tasks_at_once
from tests.factories import create_key, create_membership, create_product, create_route
from tests.metering.api_kit import SEARCH

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS = 3


def assert_within_a_second(*seconds: float) -> None:
    """On a machine that has time for it: where more programs want the processors than there are, each gets its share."""
    share = os.getloadavg()[0] / (os.cpu_count() or 1)
    assert max(seconds) < max(1.0, share), f"{seconds} s at a load of {share:.1f} for each processor"


def say(capsys: pytest.CaptureFixture[str], what: str, *seconds: float) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{what}: {', '.join(f'{one:.2f}' for one in seconds)} s from event to door\n")


class Caller:
    """A customer's program: what the door answers it, and how long after an event it answers something else."""

    def __init__(self, payer: Payer) -> None:
        self.payer, self.ear, self.client = payer, Ear(), Client()
        create_route(create_product(), "/v1/search")
        self.key = create_key(organization=payer.organization).clear

    def answer(self) -> str:
        """'open', or the code of a 402."""
        response = self.client.get(SEARCH, headers={"Authorization": f"Bearer {self.key}"})
        return "open" if response.status_code == 200 else str(response.json()["code"])

    def forget_events(self) -> None:
        self.ear.heard |= {event["id"] for event in self.ear.new()}

    def seconds_until(self, answer: str, kind: str) -> float:
        """Deliver the new event of this kind alone; from its arrival until the door answers so."""
        event = next(event for event in self.ear.new() if event["type"] == kind)
        started = time.perf_counter()
        assert post(event) == 200
        while self.answer() != answer:
            assert time.perf_counter() - started < 10, f"after {kind}: {self.answer()}"
        return time.perf_counter() - started


@pytest.fixture
def caller(stripe_standin: Standin, settings: LazySettings, usage_redis: Any) -> Iterator[Caller]:
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    forget_cached()
    with tasks_at_once():
        payer = Payer.start(stripe_standin)
        payer.subscribe()
        yield Caller(payer)
    forget_cached()


def end_trial(payer: Payer, *, then: timedelta) -> None:
    """Let the trial end now, and Stripe's clock go on."""
    at = int(payer.at.timestamp()) + 1
    payer.standin.control("end-period", "POST", {"subscription": payer.row.stripe_id, "at": at})
    time.sleep(1.1)
    payer.pass_time(then)


def test_paused_and_resumed(caller: Caller, capsys: pytest.CaptureFixture[str]) -> None:
    payer = caller.payer
    ends: Any = {"trial_settings": {"end_behavior": {"missing_payment_method": "pause"}}}
    stripe_client().v1.subscriptions.update(payer.row.stripe_id, ends)
    take_card_away(payer)
    assert caller.answer() == "open"
    end_trial(payer, then=timedelta(seconds=1))
    closed = caller.seconds_until("subscription_paused", "customer.subscription.paused")

    use_card(payer, "pm_card_visa")
    caller.forget_events()
    stripe_client().v1.subscriptions.resume(payer.row.stripe_id)
    opened = caller.seconds_until("open", "customer.subscription.resumed")

    say(capsys, "paused and resumed", closed, opened)
    assert_within_a_second(closed, opened)


def test_a_card_alone_opens_a_paused_trial(caller: Caller) -> None:
    payer = caller.payer
    ends: Any = {"trial_settings": {"end_behavior": {"missing_payment_method": "pause"}}}
    stripe_client().v1.subscriptions.update(payer.row.stripe_id, ends)
    take_card_away(payer)
    end_trial(payer, then=timedelta(seconds=1))
    assert "customer.subscription.paused" in caller.ear.listen()
    assert caller.answer() == "subscription_paused"

    stripe_id = payer.organization.stripe_customer.stripe_id
    method = stripe_client().v1.payment_methods.attach("pm_card_visa", {"customer": stripe_id})
    stripe_client().v1.customers.update(
        stripe_id, {"invoice_settings": {"default_payment_method": method.id}}
    )
    caller.ear.listen()

    assert caller.answer() == "open"
    assert payer.row.status == "active"


def test_failed_and_paid(caller: Caller, settings: LazySettings, capsys: pytest.CaptureFixture[str]) -> None:
    settings.PAST_DUE_GRACE_DAYS = 0
    payer = caller.payer
    closed: list[float] = []
    opened: list[float] = []
    use_card(payer, "pm_card_chargeCustomerFail")
    end_trial(payer, then=timedelta(hours=3))
    for _ in range(ROUNDS):
        closed.append(caller.seconds_until("payment_required", "invoice.payment_failed"))
        use_card(payer, "pm_card_visa")
        caller.forget_events()
        (invoice,) = [one for one in payer.invoices if one.state == "open"]
        stripe_client().v1.invoices.pay(invoice.stripe_id)
        opened.append(caller.seconds_until("open", "invoice.paid"))
        use_card(payer, "pm_card_chargeCustomerFail")
        caller.forget_events()
        payer.pass_time(timedelta(days=31, hours=3))
    say(capsys, "failed and paid", median(closed), median(opened))
    assert_within_a_second(median(closed), median(opened))


def test_ended(caller: Caller, capsys: pytest.CaptureFixture[str]) -> None:
    caller.forget_events()
    stripe_client().v1.subscriptions.cancel(caller.payer.row.stripe_id)
    closed = caller.seconds_until("subscription_cancelled", "customer.subscription.deleted")
    say(capsys, "ended", closed)
    assert_within_a_second(closed)


def test_a_slow_mail_server_holds_no_event_up(
    caller: Caller, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an event causes is handed over, not done: mails to customer and staff, and the requests that it makes at Stripe."""
    handed: list[str] = []
    settings.STAFF_EMAILS = ["staff@farebox.example"]
    settings.PAST_DUE_GRACE_DAYS = 0
    monkeypatch.setattr(account_tasks.send_mail, "apply_async", lambda **sent: handed.append("mail"))
    monkeypatch.setattr(account_tasks.send_mail, "run", lambda **sent: pytest.fail("sent in the request"))
    create_membership(organization=caller.payer.organization, role="billing")
    use_card(caller.payer, "pm_card_chargeCustomerFail")
    end_trial(caller.payer, then=timedelta(hours=3))
    caller.seconds_until("payment_required", "invoice.payment_failed")
    assert handed == ["mail", "mail"]
