"""An upgrade with a card whose bank asks (3D Secure): the plan changes when it is paid, and nothing does when it is not."""

from datetime import timedelta

import pytest
import requests

from billing.models import PaymentEntry, StripeItem, StripeUpgrade, UpgradeState
from billing.stripe.changes import cancel_paid_plan, change_paid_plan
from billing.stripe.client import StripeRefused, stripe_client
from billing.stripe.sync import end_replaced
from billing.stripe.upgrades import (
    CONFIRM_WITHIN,
    ChangedMeanwhile,
    drop_upgrade,
    follow_upgrades,
    look_at_upgrade,
    upgrade_price,
    waiting_upgrade,
)
from plans.models import SubscriptionStatus
from plans.queries import newest_version
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.payer import Payer
from tests.billing.stripe.test_subscriptions import _use_card

pytestmark = pytest.mark.django_db
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
ASKS = "4000002760003184"


@pytest.fixture
def payer(stripe_standin: Standin) -> Payer:
    """Alice on Starter, ten days into her first paid month; her card now asks for each payment."""
    payer = Payer.start(stripe_standin)
    payer.subscribe()
    payer.pass_time(24 * DAY + 2 * HOUR)
    payer.hear()
    _use_card(payer, "pm_card_authenticationRequired")
    return payer


def upgrade(payer: Payer) -> str:
    return change_paid_plan(
        organization=payer.organization, version=newest_version("professional"), by=None, at=payer.at
    )


def answer_the_bank(url: str, answer: str) -> str:
    """Press one of the two buttons; the page that comes then."""
    assert "Complete authentication" in requests.get(url, timeout=30).text
    return requests.post(url, data={"authenticate": answer}, timeout=30).text


def pending_items(payer: Payer) -> list[object]:
    customer = payer.organization.stripe_customer.stripe_id
    return list(stripe_client().v1.invoice_items.list({"customer": customer, "pending": True}).data)


def test_confirmed_it_costs_what_was_shown(payer: Payer) -> None:
    old, professional = payer.row, newest_version("professional")
    price = upgrade_price(old, professional, at=payer.at.replace(microsecond=0))
    url = upgrade(payer)
    payer.hear()

    # Nothing has changed, and nobody is dunned for what only waits.
    assert payer.row == old
    assert (payer.subscription.version, payer.subscription.status) == (old.version, SubscriptionStatus.ACTIVE)
    waits = waiting_upgrade(payer.organization)
    assert waits is not None
    assert (waits.due_minor, waits.url) == (price.due_minor, url)
    assert not PaymentEntry.objects.filter(invoice__billing_reason="subscription_create").exists()

    assert "Paid" in answer_the_bank(url, "complete")
    payer.hear()

    assert waiting_upgrade(payer.organization) is None
    assert payer.row.version == payer.subscription.version == professional
    assert (payer.invoices[-1].total_minor, payer.invoices[-1].state) == (price.due_minor, "paid")
    assert follow_upgrades(at=payer.at) == 1
    assert StripeUpgrade.objects.get().state == UpgradeState.PAID
    assert end_replaced() == 1
    assert stripe_client().v1.subscriptions.retrieve(old.stripe_id).status == "canceled"


def test_not_confirmed_nothing_changes(payer: Payer) -> None:
    old = payer.row
    url = upgrade(payer)
    assert "unable to authenticate" in answer_the_bank(url, "fail")
    payer.hear()
    assert payer.row == old
    assert payer.subscription.status == SubscriptionStatus.ACTIVE

    payer.pass_time(CONFIRM_WITHIN)
    assert follow_upgrades(at=payer.at) == 1
    payer.hear()

    waits = StripeUpgrade.objects.get()
    assert waits.state == UpgradeState.DROPPED
    assert stripe_client().v1.subscriptions.retrieve(waits.stripe_id).status in (
        "canceled",
        "incomplete_expired",
    )
    assert payer.invoices[-1].state == "void"
    assert pending_items(payer) == []
    assert (payer.row, payer.row.ended_at) == (old, None)
    assert not StripeItem.objects.exists()
    assert "Void" in requests.get(url, timeout=30).text


def test_left_by_the_customer(payer: Payer) -> None:
    upgrade(payer)
    left = drop_upgrade(organization=payer.organization, by=None, at=payer.at)
    assert left is not None
    assert left.state == UpgradeState.DROPPED
    assert look_at_upgrade(organization=payer.organization, by=None, at=payer.at) is None
    payer.hear()
    assert payer.invoices[-1].state == "void"


def test_paid_while_it_is_left_is_paid(payer: Payer) -> None:
    answer_the_bank(upgrade(payer), "complete")
    left = drop_upgrade(organization=payer.organization, by=None, at=payer.at)
    assert left is not None
    assert left.state == UpgradeState.PAID
    assert payer.row.version.plan.slug == "professional"


def test_another_act_ends_what_waits(payer: Payer) -> None:
    url = upgrade(payer)
    cancel_paid_plan(organization=payer.organization, by=None, at=payer.at)
    assert StripeUpgrade.objects.get().state == UpgradeState.DROPPED
    assert "Complete authentication" not in requests.get(url, timeout=30).text
    assert payer.row.cancels_at == payer.row.current_period_end


def test_asked_again_only_the_second_can_be_paid(payer: Payer) -> None:
    first = upgrade(payer)
    payer.pass_time(HOUR)
    second = upgrade(payer)
    assert "Complete authentication" not in requests.get(first, timeout=30).text
    answer_the_bank(second, "complete")
    with pytest.raises(ChangedMeanwhile):
        upgrade(payer)


def test_an_answer_that_was_lost_is_found_by_the_next_try(payer: Payer, stripe_standin: Standin) -> None:
    _use_card(payer, "pm_card_visa")
    stripe_standin.fault("error_after", "POST", "/v1/subscriptions$", times=2)
    with pytest.raises(Exception, match="nothing is charged twice"):
        upgrade(payer)
    with pytest.raises(ChangedMeanwhile):
        upgrade(payer)

    assert payer.row.version.plan.slug == "professional"
    payer.hear()
    paid = [invoice for invoice in payer.invoices if invoice.state == "paid" and invoice.total_minor]
    assert len(paid) == 2  # Starter's month, and one upgrade


def test_a_declined_card_leaves_no_credit_behind(payer: Payer) -> None:
    _use_card(payer, "pm_card_chargeCustomerFail")
    with pytest.raises(StripeRefused, match="declined"):
        upgrade(payer)
    assert pending_items(payer) == []
    assert waiting_upgrade(payer.organization) is None
    payer.hear()
    assert payer.invoices[-1].state == "void"


def test_checkout_asks_the_bank_too(stripe_standin: Standin) -> None:
    payer = Payer.start(stripe_standin, name="Careful Bank")
    url = payer.checkout("starter")
    form = {"email": "a@b.example", "cardNumber": ASKS, "cardExpiry": "12/34", "cardCvc": "123"}
    assert "Complete authentication" in requests.post(url, data=form, timeout=30).text
    refused = requests.post(url, data=form | {"authenticate": "fail"}, timeout=30)
    assert refused.status_code == 402
    back = requests.post(url, data=form | {"authenticate": "complete"}, allow_redirects=False, timeout=30)
    assert back.headers["Location"].startswith("http://portal.test/paid/")
