"""`/webhooks/stripe`: signed events, each once, in any order, lead to one state; forged ones leave nothing."""

import hmac
import json
import random
import time
from hashlib import sha256
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client
from djstripe.models import Event, WebhookEventTrigger

from billing.models import PaymentEntry, StripeInvoice, StripeSubscription
from billing.stripe.checkout import finish_checkout
from billing.stripe.client import stripe_client
from plans.models import Subscription, SubscriptionEvent
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.payer import Payer

pytestmark = pytest.mark.django_db
SECRET = "whsec_of_the_tests_0123456789abcdef"


@pytest.fixture
def payer(stripe_standin: Standin, settings: LazySettings) -> Payer:
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    return Payer.start(stripe_standin)


def post(event: dict[str, Any], *, secret: str = SECRET, age: int = 0, **headers: str) -> int:
    body = json.dumps(event)
    stamp = int(time.time()) - age
    signature = hmac.new(secret.encode(), f"{stamp}.{body}".encode(), sha256).hexdigest()
    answer = Client().post(
        "/webhooks/stripe", body, content_type="application/json",
        headers={"Stripe-Signature": f"t={stamp},v1={signature}"} | headers,
    )  # fmt: skip
    return answer.status_code


def events() -> list[dict[str, Any]]:
    """All that Stripe has to tell, oldest first."""
    return [
        event.to_dict(for_json=True)
        for event in stripe_client().v1.events.list({"limit": 100}).auto_paging_iter()
    ][::-1]


def test_the_webhook_alone_opens_the_door(payer: Payer) -> None:
    assert payer.fill_in(payer.checkout())

    assert {post(event) for event in events()} == {200}

    assert payer.row.status == "trialing"
    assert payer.subscription.version.plan.slug == "starter"
    assert Event.objects.count() == len(events())


def test_every_event_ten_times_in_any_order_leads_to_one_state(payer: Payer) -> None:
    payer.fill_in(payer.checkout())
    told = events() * 10
    chance = random.Random(7)
    chance.shuffle(told)

    assert {post(event) for event in told} == {200}

    assert (StripeSubscription.objects.count(), Subscription.objects.count()) == (1, 1)
    assert SubscriptionEvent.objects.filter(kind="started").count() == 1
    assert StripeInvoice.objects.filter(state="paid", total_minor=0).count() == 1
    assert not PaymentEntry.objects.exists()  # of the trial nothing was paid


def test_the_way_back_and_the_webhook_agree(payer: Payer) -> None:
    back = payer.fill_in(payer.checkout())
    session_id = back.rpartition("session_id=")[2]
    assert finish_checkout(organization=payer.organization, session_id=session_id, at=payer.at)
    before = Subscription.objects.values().get()

    assert {post(event) for event in events()} == {200}

    assert Subscription.objects.values().get() == before


@pytest.mark.parametrize(
    "forgery",
    [
        {"secret": "whsec_of_somebody_else"},
        {"age": 400},
        {"secret": "whsec_x", "x-djstripe-webhook-secret": "whsec_x"},
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_a_forged_event_is_refused_and_leaves_nothing(
    payer: Payer, settings: LazySettings, forgery: dict[str, Any], debug: bool
) -> None:
    settings.DEBUG = debug
    event = {
        "id": "evt_1",
        "object": "event",
        "livemode": False,
        "type": "invoice.paid",
        "data": {"object": {}},
    }
    assert post(event, **forgery) == 400
    assert not WebhookEventTrigger.objects.exists()


@pytest.mark.parametrize("headers", [{}, {"Stripe-Signature": ""}, {"Stripe-Signature": "t=x,v1=y"}])
def test_without_a_signature_it_is_refused(payer: Payer, headers: dict[str, str]) -> None:
    answer = Client().post("/webhooks/stripe", b"\xff", content_type="application/json", headers=headers)
    assert answer.status_code == 400
    assert answer.json()["code"] == "webhook_not_signed"


def test_there_is_no_endpoint_without_stripe(settings: LazySettings) -> None:
    settings.STRIPE_SECRET_KEY = ""
    assert post({"id": "evt_1"}) == 404


def test_somebody_elses_objects_are_left_alone(payer: Payer) -> None:
    stripe_client().v1.customers.create({"email": "other@example.com"})
    assert {post(event) for event in events()} == {200}
    assert not StripeSubscription.objects.exists()
