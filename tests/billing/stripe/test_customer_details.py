"""Name, addresses and tax number of both sides: who changes them, the other hears of it, and nothing goes in circles."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.core import mail

from billing.accounts import change_account, get_account
from billing.models import BillingAccount, StripeCustomer, StripeFinding
from billing.stripe.client import plain, stripe_client
from billing.stripe.reconcile import find_unlike, mend_unlike
from plans.models import SubscriptionStatus
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.hearing import Ear
from tests.billing.stripe.payer import Payer
from tests.billing.stripe.test_webhooks import SECRET
from tests.eager import tasks_at_once

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def payer(stripe_standin: Standin, settings: LazySettings, usage_redis: Any) -> Iterator[Payer]:
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    with tasks_at_once():
        payer = Payer.start(stripe_standin)
        payer.subscribe()
        Ear().listen()  # also that Checkout asked for an e-mail address
        yield payer


def customer_there(payer: Payer) -> dict[str, Any]:
    row = StripeCustomer.objects.get(organization=payer.organization)
    return plain(stripe_client().v1.customers.retrieve(row.stripe_id))


def account(payer: Payer) -> BillingAccount:
    return BillingAccount.objects.get(organization=payer.organization)


def change_here(payer: Payer, **changes: str) -> None:
    found = get_account(payer.organization)
    facts = {name: getattr(found, name) for name in ("legal_name", "address", "tax_id", "email")}
    change_account(organization=payer.organization, by=None, at=payer.at, **(facts | changes))


def writes(payer: Payer) -> int:
    """How often a customer was written at Stripe so far."""
    return int(payer.standin.control("requests").get("POST /v1/customers/{id}", 0))


def test_what_is_changed_here_is_changed_there_once(payer: Payer) -> None:
    ear, before = Ear(), writes(payer)
    ear.listen()
    change_here(
        payer, legal_name="Acme Maps Ltd", email="bill@acme.example", address="1 Main St\n12345 Berlin"
    )

    found = customer_there(payer)
    assert (found["name"], found["email"]) == ("Acme Maps Ltd", "bill@acme.example")
    assert (found["address"]["line1"], found["address"]["line2"]) == ("1 Main St", "12345 Berlin")
    assert writes(payer) == before + 1

    assert "customer.updated" in ear.listen()
    assert ear.listen() == []  # what was heard causes nothing more
    change_here(payer)  # saved again as it is
    assert writes(payer) == before + 1
    assert account(payer).address == "1 Main St\n12345 Berlin"


def test_what_is_changed_there_is_changed_here_once(payer: Payer) -> None:
    ear, row = Ear(), payer.organization.stripe_customer
    ear.listen()
    address: Any = {"line1": "2 Side St", "postal_code": "10115", "city": "Berlin", "country": "DE"}
    sent: Any = {"name": "Acme GmbH", "email": "rechnung@acme.example", "address": address}
    stripe_client().v1.customers.update(row.stripe_id, sent)
    stripe_client().v1.customers.tax_ids.create(row.stripe_id, {"type": "eu_vat", "value": "DE123456789"})
    before = writes(payer)

    told = ear.listen()

    assert {"customer.updated", "customer.tax_id.created"} <= set(told)
    found = account(payer)
    assert (found.legal_name, found.email) == ("Acme GmbH", "rechnung@acme.example")
    assert (found.address, found.tax_id) == ("2 Side St\n10115 Berlin\nDE", "DE123456789")
    assert (writes(payer), ear.listen()) == (before, [])
    change_here(payer, email="other@acme.example")
    assert customer_there(payer)["address"]["city"] == "Berlin"  # only what was changed is sent
    assert customer_there(payer)["email"] == "other@acme.example"


def test_what_was_changed_on_both_sides_is_as_it_is_there(payer: Payer) -> None:
    row = payer.organization.stripe_customer
    stripe_client().v1.customers.update(row.stripe_id, {"name": "There"})
    BillingAccount.objects.filter(organization=payer.organization).update(
        legal_name="Here", email="here@a.example"
    )

    done = mend_unlike(at=payer.at, organization=payer.organization)

    assert [one.what for one in done.mended] == ["customer"]
    assert account(payer).legal_name == customer_there(payer)["name"] == "There"
    assert customer_there(payer)["email"] == "here@a.example"
    assert find_unlike(at=payer.at, organization=payer.organization) == []


def test_a_card_that_is_taken_away_is_not_shown_any_more(payer: Payer) -> None:
    ear, row = Ear(), payer.organization.stripe_customer
    ear.listen()
    customer = row.stripe_id
    old = stripe_client().v1.payment_methods.list({"customer": customer}).data[0]
    new = stripe_client().v1.payment_methods.attach("pm_card_mastercard", {"customer": customer})
    stripe_client().v1.customers.update(customer, {"invoice_settings": {"default_payment_method": new.id}})
    stripe_client().v1.subscriptions.update(payer.row.stripe_id, {"default_payment_method": new.id})
    ear.listen()
    row.refresh_from_db()
    assert row.card == "Mastercard ending in 4444"

    stripe_client().v1.payment_methods.detach(old.id)
    stripe_client().v1.payment_methods.detach(new.id)
    assert "payment_method.detached" in ear.listen()
    row.refresh_from_db()
    assert row.card == ""


def test_a_customer_that_is_deleted_there(payer: Payer) -> None:
    """The plan ends, staff are told, and who comes back gets another customer."""
    ear, old = Ear(), payer.organization.stripe_customer.stripe_id
    ear.listen()
    stripe_client().v1.customers.delete(old)
    ear.listen()

    row = StripeCustomer.objects.get(organization=payer.organization)
    assert (row.card, row.deleted_at is None) == ("", False)
    assert payer.subscription.status == SubscriptionStatus.CANCELLED
    assert StripeFinding.objects.get(closed_at=None).subject == f"reconcile: {old}"

    payer.pass_time(timedelta(minutes=1))
    payer.subscribe()
    row.refresh_from_db()
    assert (row.deleted_at, row.stripe_id == old) == (None, False)
    assert payer.row.status == "active"
    assert not mail.outbox or old not in mail.outbox[-1].body
