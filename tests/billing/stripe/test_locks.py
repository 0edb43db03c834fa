"""Who waits for whom: while Stripe is asked nobody waits for a row of ours, and money does not wait for acts on plans."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import requests
from django.conf import LazySettings
from django.db import connection, transaction

from accounts.models import Organization
from billing.credits import grant_credit
from billing.models import BillingAccount
from billing.stripe.changes import cancel_paid_plan, change_paid_plan, keep_paid_plan
from billing.stripe.client import stripe_client
from billing.stripe.upgrades import drop_upgrade
from core.clock import now
from plans.models import Subscription
from plans.queries import newest_version
from plans.services import lock_organization
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.hearing import Ear
from tests.billing.stripe.payer import Payer
from tests.billing.stripe.test_subscriptions import _use_card
from tests.billing.stripe.test_webhooks import SECRET
from tests.eager import tasks_at_once
from tests.factories import create_organization

pytestmark = pytest.mark.django_db(transaction=True)


def elsewhere(act: Callable[[], Any]) -> Any:
    """In another session of the database, which waits two seconds for a lock at most."""

    def run() -> Any:
        try:
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute("SET LOCAL lock_timeout = '2s'")
                return act()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(timeout=30)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """At each request to Stripe somebody else takes the rows of all organizations and subscriptions."""
    seen: list[int] = []

    def take_rows() -> int:
        for rows in (Subscription.objects, BillingAccount.objects):
            list(rows.select_for_update(nowait=True).values_list("pk", flat=True))
        return len(Organization.objects.select_for_update(nowait=True).values_list("pk", flat=True))

    def count(*_: Any) -> None:
        seen.append(elsewhere(take_rows))

    monkeypatch.setattr("tests.billing.stripe.conftest.Standin.at_request", count)
    return seen


def test_no_row_is_locked_while_stripe_is_asked(stripe_standin: Standin, asked: list[int]) -> None:
    payer = Payer.start(stripe_standin)
    payer.subscribe("professional")
    payer.pass_time(timedelta(days=15))
    payer.hear()
    asked.clear()

    cancel_paid_plan(organization=payer.organization, by=None, at=payer.at)
    keep_paid_plan(organization=payer.organization, by=None, at=payer.at)
    change_paid_plan(organization=payer.organization, version=newest_version("starter"), by=None, at=payer.at)

    assert len(asked) >= 4
    assert all(asked)
    assert payer.row.next_version == newest_version("starter")


def test_no_row_is_locked_while_an_upgrade_waits_and_is_settled(
    stripe_standin: Standin, asked: list[int]
) -> None:
    payer = Payer.start(stripe_standin)
    payer.subscribe()
    payer.pass_time(timedelta(days=15))
    payer.hear()
    _use_card(payer, "pm_card_authenticationRequired")
    asked.clear()

    for _ in range(2):  # the second one voids the first
        url = change_paid_plan(
            organization=payer.organization, version=newest_version("professional"), by=None, at=payer.at
        )
        payer.pass_time(timedelta(minutes=1))
    requests.post(url, data={"authenticate": "complete"}, timeout=30)
    drop_upgrade(organization=payer.organization, by=None, at=payer.at)

    assert len(asked) >= 10
    assert all(asked)
    assert payer.row.version == newest_version("professional")


def test_no_row_is_locked_while_names_and_addresses_go_both_ways(
    stripe_standin: Standin, asked: list[int], settings: LazySettings, usage_redis: Any
) -> None:
    """Also not by the event of a customer who pays, which looks at the subscription, too."""
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    payer, ear = Payer.start(stripe_standin), Ear()
    payer.subscribe("professional")
    with tasks_at_once():
        ear.listen()
        stripe_client().v1.customers.update(payer.customer_id, {"name": "There"})
        BillingAccount.objects.filter(organization=payer.organization).update(email="here@a.example")
        asked.clear()
        assert "customer.updated" in ear.listen()

    account = BillingAccount.objects.get(organization=payer.organization)
    there = stripe_client().v1.customers.retrieve(payer.customer_id)
    assert (account.legal_name, there.email) == ("There", "here@a.example")
    assert len(asked) >= 4
    assert all(asked)


def test_credit_is_granted_while_the_plan_is_changed() -> None:
    """A row that refers to the organization needs its key only."""
    organization = create_organization("Acme Maps")
    with transaction.atomic():
        lock_organization(organization)
        grant = elsewhere(
            lambda: grant_credit(
                organization=organization, amount_minor=500, currency="USD", reason="Gift", by=None, at=now()
            )
        )
    assert grant.amount_minor == 500
