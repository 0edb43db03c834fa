"""Webhooks: signed, retried, lost and doubled on demand."""

import json
import time

import pytest
import stripe

from tests.stripe_standin.conftest import Receiver, StandIn


def endpoint(standin: StandIn, receiver: Receiver, *types: str) -> str:
    made = standin.api.webhook_endpoints.create({"url": receiver.url, "enabled_events": list(types) or ["*"]})  # type: ignore[typeddict-item]
    assert made.secret is not None
    assert standin.api.webhook_endpoints.retrieve(made.id).to_dict().get("secret") is None
    return made.secret


def idle(standin: StandIn) -> None:
    assert standin.control("POST", "hooks/wait", seconds=10)["idle"]


def test_a_signature_proves_the_sender(standin: StandIn, receiver: Receiver) -> None:
    secret = endpoint(standin, receiver, "customer.created")
    customer = standin.api.customers.create({"email": "a@example.com"})
    standin.api.customers.update(customer.id, {"email": "b@example.com"})  # not asked for
    idle(standin)
    ((body, signature),) = receiver.got
    event = stripe.Webhook.construct_event(body, signature, secret)
    assert (event.type, event.data.object["id"]) == ("customer.created", customer.id)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body, signature, "whsec_other")
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body.replace(b"a@", b"b@"), signature, secret)


def test_updates_tell_what_was_before(standin: StandIn) -> None:
    customer = standin.api.customers.create({"email": "a@example.com"})
    standin.api.customers.update(customer.id, {"email": "b@example.com"})
    event = standin.api.events.list({"type": "customer.updated"}).data[0]
    assert event.data.to_dict()["previous_attributes"] == {"email": "a@example.com"}
    assert event.to_dict()["request"]["id"].startswith("req_")
    assert standin.api.events.retrieve(event.id).id == event.id


def test_a_refused_webhook_is_sent_again(standin: StandIn, receiver: Receiver) -> None:
    endpoint(standin, receiver, "customer.created")
    receiver.statuses = [500, 400]
    standin.api.customers.create({})
    idle(standin)
    assert len({json.loads(body)["id"] for body, _ in receiver.got}) == 1
    assert len(receiver.got) == 3
    assert standin.api.events.list({"type": "customer.created"}).data[0].pending_webhooks == 0


def test_webhooks_are_lost_doubled_and_late_on_demand(standin: StandIn, receiver: Receiver) -> None:
    endpoint(standin, receiver)
    standin.control("POST", "faults", kind="webhook_lost", type="customer.created")
    standin.control("POST", "faults", kind="webhook_doubled", type="customer.updated")
    standin.control("POST", "faults", kind="webhook_delayed", type="customer.deleted", seconds=0.3)
    customer = standin.api.customers.create({})
    standin.api.customers.update(customer.id, {"name": "B"})
    begun = time.monotonic()
    standin.api.customers.delete(customer.id)
    idle(standin)
    assert time.monotonic() - begun >= 0.3
    assert sorted(receiver.types()) == ["customer.deleted", "customer.updated", "customer.updated"]
    assert standin.api.events.list({"type": "customer.created"}).data  # lost on the way, not at Stripe


def test_an_event_is_sent_again_when_asked(standin: StandIn, receiver: Receiver) -> None:
    endpoint(standin, receiver, "customer.created")
    standin.api.customers.create({})
    idle(standin)
    standin.control(
        "POST", "hooks/resend", event=standin.api.events.list({"type": "customer.created"}).data[0].id
    )
    idle(standin)
    assert [json.loads(body)["id"] for body, _ in receiver.got] == [json.loads(receiver.got[0][0])["id"]] * 2
