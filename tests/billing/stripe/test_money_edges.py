"""Money where the two sides part: unpaid fees, crashes between the sides, ends in mid-period, payers by hand who take a card."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import stripe
from django.db import connection

from billing.models import LineKind, StripeItem, StripeLine, StripePrice
from billing.statements import finalise_due
from billing.stripe.changes import PaymentOwed, change_paid_plan, upgrade_price
from billing.stripe.checkout import checkout_items
from billing.stripe.client import stripe_client
from billing.stripe.compare import compare_one
from billing.stripe.items import send_items
from billing.stripe.sync import (
    CREDIT_AMOUNT,
    CREDIT_ITEM,
    end_replaced,
    refuse_second,
    remember_credit,
    sync_subscription,
)
from plans.queries import newest_version
from plans.services import roll_periods
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.payer import Payer
from tests.billing.stripe.test_invoices_equal import end_month, present, use
from tests.billing.stripe.test_subscriptions import _use_card

pytestmark = pytest.mark.django_db(transaction=True)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture
def new(stripe_standin: Standin) -> Payer:
    return Payer.start(stripe_standin)


@pytest.fixture
def payer(new: Payer) -> Payer:
    """Alice on Starter, whose first paid month runs."""
    new.subscribe()
    new.pass_time(14 * DAY + 2 * HOUR)
    new.hear()
    return new


def test_a_fee_that_nobody_paid_is_not_given_back_by_an_upgrade(payer: Payer) -> None:
    _use_card(payer, "pm_card_chargeCustomerFail")
    payer.pass_time(timedelta(days=31, hours=2))
    payer.hear()
    _use_card(payer, "pm_card_visa")
    roll_periods(at=payer.at)

    with pytest.raises(PaymentOwed):
        change_paid_plan(
            organization=payer.organization, version=newest_version("professional"), by=None, at=payer.at
        )

    assert not StripeItem.objects.exists()
    assert payer.row.version.plan.slug == "starter"


def test_a_crash_after_stripe_made_the_upgrade_gives_the_credit_once(
    payer: Payer, monkeypatch: pytest.MonkeyPatch
) -> None:
    payer.pass_time(10 * DAY)
    professional = newest_version("professional")
    price = upgrade_price(payer.row, professional, at=payer.at.replace(microsecond=0))
    with monkeypatch.context() as crash:
        crash.setattr("billing.stripe.upgrades.apply_subscription", _crash)
        with pytest.raises(RuntimeError):
            change_paid_plan(organization=payer.organization, version=professional, by=None, at=payer.at)
    payer.hear()
    assert payer.row.version == professional

    payer.pass_time(HOUR)
    finalise_due(at=payer.at)

    given = StripeItem.objects.filter(kind=LineKind.FEE_CREDIT).values_list("amount_minor", flat=True)
    assert abs(sum(given) + price.credit_minor) <= 1  # the seconds between the preview and the act
    assert given[0] < 0


def test_usage_before_an_end_at_once_is_asked_for(payer: Payer) -> None:
    use(payer, 60_000)
    payer.pass_time(5 * DAY)
    stripe_client().v1.subscriptions.cancel(payer.row.stripe_id)
    payer.hear()
    payer.pass_time(HOUR)
    finalise_due(at=payer.at)
    send_items(at=payer.at)
    payer.pass_time(2 * HOUR)
    payer.hear()

    assert payer.invoices[-1].total_minor == 1_000
    assert payer.invoices[-1].state == "paid"


def test_a_downgrade_in_a_trial_leaves_the_trial(new: Payer) -> None:
    row = new.subscribe("professional")
    change_paid_plan(organization=new.organization, version=newest_version("starter"), by=None, at=new.at)
    new.hear()
    assert (new.row.status, new.row.current_period_end) == ("trialing", row.current_period_end)


def test_a_downgrade_to_free_charges_nothing_any_more(payer: Payer) -> None:
    change_paid_plan(organization=payer.organization, version=newest_version("free"), by=None, at=payer.at)
    charged = sum(invoice.total_minor for invoice in payer.invoices)
    payer.pass_time(timedelta(days=32))
    roll_periods(at=payer.at)
    payer.hear()
    assert payer.subscription.version.plan.slug == "free"
    assert sum(invoice.total_minor for invoice in payer.invoices) == charged


def _crash(*_: object, **__: object) -> None:
    raise RuntimeError("the process ends here")


def test_a_replaced_subscription_is_ended_when_stripe_is_back(payer: Payer, stripe_standin: Standin) -> None:
    payer.pass_time(10 * DAY)
    old = payer.row
    stripe_standin.fault("error", "DELETE", "/v1/subscriptions/", times=4)
    change_paid_plan(
        organization=payer.organization, version=newest_version("professional"), by=None, at=payer.at
    )
    payer.hear()  # events of the old one do not make it forgotten
    assert stripe_client().v1.subscriptions.retrieve(old.stripe_id).status == "active"
    assert end_replaced() == 0

    stripe_standin.control("faults", "DELETE")
    assert end_replaced() == 1
    assert stripe_client().v1.subscriptions.retrieve(old.stripe_id).status == "canceled"
    assert end_replaced() == 0
    payer.hear()
    assert payer.row.version.plan.slug == "professional"


def test_a_key_of_an_item_is_this_installations_own(payer: Payer) -> None:
    """Two installations in one account number their rows alike."""
    use(payer, 60_000)
    payer.pass_time(5 * DAY)
    stripe_client().v1.subscriptions.cancel(payer.row.stripe_id)
    payer.hear()
    payer.pass_time(HOUR)
    finalise_due(at=payer.at)
    payer.standin.writes.clear()
    assert send_items(at=payer.at) == 1

    (key,) = [key for where, key in payer.standin.writes if where.endswith("/v1/invoiceitems")]
    assert payer.organization.public_id in key


def test_an_upgrade_in_the_second_in_which_its_period_began(payer: Payer) -> None:
    """The credit belongs to that period, not to the one before it: else it would be given twice."""
    period = present(payer)
    prices = StripePrice.objects.filter(version=newest_version("professional"))
    data = {
        "metadata": {CREDIT_ITEM: "ii_1", CREDIT_AMOUNT: "4900"},
        "items": {"data": [{"price": {"id": price.stripe_id}} for price in prices]},
    }
    remember_credit(payer.row, data, period.starts_at, payer.at)
    assert StripeItem.objects.get(stripe_id="ii_1").period == period


def test_what_was_bought_twice_runs_until_its_payment_is_back(payer: Payer) -> None:
    """A refund that Stripe did not make is found again by what still runs there."""
    api = stripe_client().v1
    card = api.payment_methods.list({"customer": payer.customer_id}).data[0].id
    items = checkout_items(newest_version("starter"))
    params: Any = {"customer": payer.customer_id, "items": items, "default_payment_method": card}
    second = api.subscriptions.create(params)
    assert sync_subscription(second.id, at=payer.at) is None
    invoice = str(second.latest_invoice)
    payer.standin.fault("error", "POST", "/v1/refunds", times=2)

    with pytest.raises(stripe.APIError):
        refuse_second(second.id, invoice)
    assert api.subscriptions.retrieve(second.id).status == "active"
    for _ in range(2):
        refuse_second(second.id, invoice)

    assert api.subscriptions.retrieve(second.id).status == "canceled"
    assert [refund.amount for refund in api.refunds.list().data] == [4_900]
    assert api.subscriptions.retrieve(payer.row.stripe_id).status == "active"


def test_an_invoice_is_compared_by_two_at_once(payer: Payer) -> None:
    """Beat, and staff who do not wait for it."""
    end_month(payer)
    invoice = payer.invoices[-1]

    def compare(_: int) -> bool:
        try:
            return compare_one(invoice, at=payer.at)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(compare, range(8)))
    assert StripeLine.objects.filter(invoice=invoice, is_equal=True).count() == 2
