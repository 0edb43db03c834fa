"""Mails and the timeline of money: trials that end, payments that fail, refunds, disputes; each is told once, whatever the order."""

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.core import mail

from accounts.models import User
from billing.models import PaymentEntry, StripeCustomer
from billing.stripe.client import stripe_client
from plans.models import SubscriptionStatus
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.hearing import Ear
from tests.billing.stripe.payer import FAILS_LATER, Payer
from tests.billing.stripe.test_lifecycle import take_card_away
from tests.billing.stripe.test_subscriptions import _use_card as use_card
from tests.billing.stripe.test_webhooks import SECRET, post
from tests.eager import tasks_at_once
from tests.factories import create_membership, create_user

pytestmark = pytest.mark.django_db(transaction=True)
DAY, HOUR, MONTH = timedelta(days=1), timedelta(hours=1), timedelta(days=31)
BILL, STAFF = "bill@acme.example", "staff@farebox.example"


@pytest.fixture
def payer(stripe_standin: Standin, settings: LazySettings, usage_redis: Any) -> Iterator[Payer]:
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    settings.STAFF_EMAILS = [STAFF]
    with tasks_at_once():
        payer = Payer.start(stripe_standin)
        create_membership(organization=payer.organization, user=create_user(BILL), role="owner")
        User.objects.filter(email=BILL).update(time_zone="Pacific/Auckland")
        payer.subscribe()
        yield payer


@pytest.fixture
def past_trial(payer: Payer) -> Payer:
    payer.pass_time(14 * DAY + 2 * HOUR)
    Ear().listen()
    mail.outbox.clear()
    return payer


def mails(to: str) -> list[str]:
    return [str(one.subject) for one in mail.outbox if one.to == [to]]


def body(word: str) -> str:
    return next(str(one.body) for one in mail.outbox if word in one.subject)


def timeline(payer: Payer) -> list[tuple[str, int, str]]:
    rows = PaymentEntry.objects.for_organization(payer.organization).order_by("pk")
    return list(rows.values_list("kind", "amount_minor", "text"))


def test_the_end_of_a_trial_is_told_once_in_the_readers_zone(payer: Payer) -> None:
    payer.pass_time(11 * DAY + HOUR)
    ear = Ear()
    assert "customer.subscription.trial_will_end" in ear.listen()
    (event,) = [one for one in Ear().new() if one["type"] == "customer.subscription.trial_will_end"]
    assert post(event | {"id": "evt_again"}) == 200

    (subject,) = mails(BILL)
    assert subject.startswith("The trial of Acme Maps ends on")
    ends = payer.row.current_period_end
    assert ends is not None
    told = body("trial")
    assert f"{ends + timedelta(hours=13):%H:%M} NZDT" in told
    assert "49.00 USD a month" in told or "USD 49.00 a month" in told or "$49.00 a month" in told
    assert "Visa ending in 4242" in told
    assert "/plan/" in told


def test_without_a_card_the_mail_says_so(payer: Payer) -> None:
    take_card_away(payer)
    payer.pass_time(11 * DAY + HOUR)
    Ear().listen()
    assert "There is no payment method" in body("trial")


def test_a_trial_that_was_cancelled_is_not_told_of(payer: Payer) -> None:
    stripe_client().v1.subscriptions.update(payer.row.stripe_id, {"cancel_at_period_end": True})
    payer.pass_time(11 * DAY + HOUR)
    assert "customer.subscription.trial_will_end" in Ear().listen()
    assert mails(BILL) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_failed_payment_is_told_once_to_both_with_its_dates(past_trial: Payer, seed: int) -> None:
    """Whichever of its events comes first."""
    payer = past_trial
    use_card(payer, "pm_card_chargeCustomerFail")
    Ear().listen()
    seen = Ear()
    seen.heard = {event["id"] for event in seen.new()}
    payer.pass_time(MONTH + 2 * HOUR)
    told = seen.new() * 2
    random.Random(seed).shuffle(told)
    mail.outbox.clear()

    assert {post(event) for event in told} == {200}

    assert mails(BILL) == ["A payment of Acme Maps is overdue"]
    (to_staff,) = mails(STAFF)
    assert to_staff.endswith("a payment of Acme Maps failed")
    words = body("overdue")
    assert "tried again on" in words
    assert "for 7 days, until" in words
    assert "49.00" in body("failed")
    assert "The days of grace end on" in body("failed")
    assert payer.subscription.status == SubscriptionStatus.PAST_DUE

    payer.pass_time(DAY + HOUR)
    Ear().listen()
    assert mails(BILL)[1:] == ["A payment to Farebox failed again"]
    assert len(mails(STAFF)) == 2
    assert [kind for kind, *_ in timeline(payer)] == ["paid", "failed", "failed"]


def test_paying_is_told_once_and_ends_it(past_trial: Payer) -> None:
    payer = past_trial
    use_card(payer, "pm_card_chargeCustomerFail")
    payer.pass_time(MONTH + 2 * HOUR)
    Ear().listen()
    mail.outbox.clear()
    use_card(payer, "pm_card_visa")
    stripe_client().v1.invoices.pay(payer.invoices[-1].stripe_id)

    for _ in range(2):
        Ear().listen()

    assert len(mails(BILL)) == 1
    assert "Nothing of Acme Maps is overdue" in str(mail.outbox[0].body)
    assert payer.subscription.status == SubscriptionStatus.ACTIVE
    customer = StripeCustomer.objects.get(organization=payer.organization)
    assert customer.card == "Visa ending in 4242"


def charge_of(payer: Payer) -> str:
    charges = stripe_client().v1.charges.list({"customer": payer.organization.stripe_customer.stripe_id})
    return next(one.id for one in charges if one.paid)


def test_a_refund_and_its_failure_are_two_lines_each_told_once(past_trial: Payer) -> None:
    payer = past_trial
    sent: Any = {"charge": charge_of(payer), "amount": 1_500, "reason": "requested_by_customer"}
    refund = stripe_client().v1.refunds.create(sent)
    for _ in range(2):
        Ear().listen()
    assert timeline(payer)[1:] == [("refunded", 1_500, "requested_by_customer")]
    assert PaymentEntry.objects.get(kind="refunded").invoice == payer.invoices[-1]
    assert mails(STAFF) == ["Farebox: a refund of Acme Maps was made"]
    assert "15.00" in str(mail.outbox[0].body)

    payer.standin.control("refund/fail", "POST", {"refund": refund.id})
    for _ in range(2):
        Ear().listen()
    assert timeline(payer)[2:] == [("refund_failed", 1_500, "expired_or_canceled_card")]
    assert mails(STAFF)[1:] == ["Farebox: a refund of Acme Maps failed"]
    assert payer.invoices[-1].state == "paid"


@pytest.mark.parametrize(("outcome", "sentence"), [("lost", "stays with"), ("won", "ours again")])
def test_a_dispute_and_its_end_are_told_once(past_trial: Payer, outcome: str, sentence: str) -> None:
    payer = past_trial
    use_card(payer, "pm_card_createDispute")
    payer.pass_time(MONTH + 2 * HOUR)
    Ear().listen()
    assert mails(STAFF) == ["Farebox: Acme Maps disputes a payment"]
    assert timeline(payer)[-1] == ("disputed", 4_900, "fraudulent")
    assert PaymentEntry.objects.get(kind="disputed").invoice == payer.invoices[-1]

    dispute = PaymentEntry.objects.get(kind="disputed").reference
    payer.standin.control("dispute/close", "POST", {"dispute": dispute, "status": outcome})
    for _ in range(2):
        Ear().listen()
    assert timeline(payer)[-1] == ("dispute_closed", 4_900, outcome)
    assert mails(STAFF)[1:] == [f"Farebox: the dispute of Acme Maps is {outcome}"]
    assert sentence in str(mail.outbox[-1].body)
    assert payer.subscription.status == SubscriptionStatus.ACTIVE


def test_a_failure_that_is_heard_before_its_subscription_is_told_once(
    stripe_standin: Standin, settings: LazySettings, usage_redis: Any
) -> None:
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    with tasks_at_once():
        payer = Payer.start(stripe_standin)
        create_membership(organization=payer.organization, user=create_user(BILL), role="owner")
        payer.fill_in(payer.checkout(), FAILS_LATER)
        payer.pass_time(14 * DAY + 2 * HOUR)
        ear = Ear()
        (failed,) = [one for one in ear.new() if one["type"] == "invoice.payment_failed"]
        assert post(failed) == 200
        ear.listen()
    (told,) = [subject for subject in mails(BILL) if "overdue" in subject or "failed" in subject.lower()]
    assert "overdue" in told
