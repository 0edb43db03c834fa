"""Money that moved at Stripe while nobody heard of it: found, mended once, and the second run changes nothing."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from billing.models import LineKind, PaymentEntry, PaymentKind, StripeFinding, StripeItem
from billing.statements import finalise_due, issue_credit_note
from billing.stripe.changes import change_paid_plan
from billing.stripe.client import stripe_client
from billing.stripe.compare import compare_invoices
from billing.stripe.items import send_items
from billing.stripe.reconcile import find_unlike, look_again, mend_unlike
from billing.stripe.sender import send_usage
from billing.stripe.sync import end_replaced
from billing.stripe.usage import fill_usage
from plans.queries import newest_version
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.payer import Payer
from tests.billing.stripe.test_invoices_equal import end_month, use
from tests.billing.stripe.test_reconcile import mended_once

pytestmark = pytest.mark.django_db(transaction=True)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
DISPUTED = "4000000000000259"


@pytest.fixture
def new(stripe_standin: Standin) -> Payer:
    return Payer.start(stripe_standin)


@pytest.fixture
def paid(new: Payer) -> Payer:
    new.subscribe()
    new.pass_time(14 * DAY + 2 * HOUR)
    new.hear()
    assert find_unlike(at=new.at) == []
    return new


def customer_of(payer: Payer) -> str:
    return payer.organization.stripe_customer.stripe_id


def the_charge(payer: Payer) -> str:
    return next(iter(stripe_client().v1.charges.list({"customer": customer_of(payer)}).data)).id


def entries(kind: PaymentKind) -> list[int]:
    return list(PaymentEntry.objects.filter(kind=kind).values_list("amount_minor", flat=True))


def test_a_refund_whose_event_was_lost(paid: Payer) -> None:
    stripe_client().v1.refunds.create({"charge": the_charge(paid), "amount": 1_200})
    (found,) = find_unlike(at=paid.at, organization=paid.organization)
    assert "of 1200 USD minor units is not in the timeline" in str(found)
    assert mended_once(paid) == ["refund"]
    assert entries(PaymentKind.REFUNDED) == [1_200]


def test_a_dispute_whose_events_were_lost(new: Payer) -> None:
    new.subscribe(card=DISPUTED)
    new.pass_time(14 * DAY + 2 * HOUR)
    new.hear()
    assert mended_once(new) == ["dispute"]
    assert (entries(PaymentKind.DISPUTED), entries(PaymentKind.DISPUTE_CLOSED)) == ([4_900], [])
    dispute = next(iter(stripe_client().v1.disputes.list().data))
    stripe_client().v1.disputes.close(dispute.id)
    new.pass_time(50 * DAY)  # decided long after it began
    new.hear()

    assert "dispute" in mended_once(new)

    assert entries(PaymentKind.DISPUTED) == [4_900, 4_900]  # this card's renewal is disputed, too
    assert entries(PaymentKind.DISPUTE_CLOSED) == [4_900]


def test_a_credit_note_made_by_hand(paid: Payer) -> None:
    invoice = paid.invoices[-1]
    stripe_client().v1.credit_notes.create(
        {"invoice": invoice.stripe_id, "amount": 500, "credit_amount": 500, "memo": "Sorry"}
    )
    assert mended_once(paid) == ["credit note"]
    entry = PaymentEntry.objects.get(kind=PaymentKind.CREDITED)
    assert (entry.amount_minor, entry.invoice, entry.text) == (500, invoice, "Sorry")


def test_the_credit_of_an_upgrade_that_was_not_made_is_taken_back(paid: Payer) -> None:
    made = stripe_client().v1.invoice_items.create(
        {
            "customer": customer_of(paid),
            "amount": -700,
            "currency": "usd",
            "metadata": {"farebox_credit_of": paid.row.stripe_id},
        }
    )
    assert find_unlike(at=paid.at) == []  # an upgrade may be under way
    paid.pass_time(2 * HOUR)
    assert mended_once(paid) == ["item"]
    waiting = stripe_client().v1.invoice_items.list({"customer": customer_of(paid), "pending": True}).data
    assert made.id not in [item.id for item in waiting]


def test_a_credit_that_is_not_known_here_is_given_once(paid: Payer) -> None:
    paid.pass_time(10 * DAY)
    use(paid, 1_000)
    change_paid_plan(
        organization=paid.organization, version=newest_version("professional"), by=None, at=paid.at
    )
    paid.hear()
    end_replaced()
    credit = StripeItem.objects.values().get(kind=LineKind.FEE_CREDIT)
    StripeItem.objects.all().delete()

    assert mended_once(paid) == ["item"]

    restored = StripeItem.objects.values().get(kind=LineKind.FEE_CREDIT)
    for name in ("stripe_id", "amount_minor", "period_id", "stripe_subscription_id", "text"):
        assert restored[name] == credit[name]
    paid.pass_time(HOUR)
    finalise_due(at=paid.at)
    assert StripeItem.objects.filter(kind=LineKind.FEE_CREDIT).count() <= 2  # seconds after the preview
    assert sum(StripeItem.objects.values_list("amount_minor", flat=True)) == pytest.approx(
        credit["amount_minor"], abs=1
    )


def balance(payer: Payer) -> int:
    return stripe_client().v1.customers.retrieve(customer_of(payer)).balance or 0


def credit_after_the_end(payer: Payer) -> None:
    """A customer leaves, and gets something back afterwards."""
    use(payer, 10)
    stripe_client().v1.subscriptions.cancel(payer.row.stripe_id)
    payer.hear()
    payer.pass_time(HOUR)
    finalise_due(at=payer.at)
    issue_credit_note(
        statement=payer.organization.statements.latest("starts_at"), amount_minor=1_500, reason="An outage",
        by=None, at=payer.at,
    )  # fmt: skip


def test_what_is_given_back_after_the_end_is_the_balance_at_stripe(paid: Payer) -> None:
    credit_after_the_end(paid)

    send_items(at=paid.at)
    paid.pass_time(2 * HOUR)
    paid.hear()

    assert balance(paid) == -1_500
    assert [(one.total_minor, one.due_minor, one.state) for one in paid.invoices[-1:]] == [
        (-1_500, 0, "paid")
    ]
    compare_invoices(at=paid.at)
    assert not StripeFinding.objects.exists()
    paid.subscribe()
    paid.hear()
    assert balance(paid) == 0 or paid.invoices[-1].due_minor == 0  # it is used by what they buy next


def test_items_that_wait_for_ever_are_settled_by_the_nightly_run(
    paid: Payer, monkeypatch: pytest.MonkeyPatch
) -> None:
    credit_after_the_end(paid)
    with monkeypatch.context() as patch:
        patch.setattr("billing.stripe.items.settle_pending", lambda *args, **kwargs: False)
        send_items(at=paid.at)
    assert find_unlike(at=paid.at) == []
    paid.pass_time(2 * HOUR)

    assert set(mended_once(paid)) == {"item", "invoice"}

    paid.pass_time(2 * HOUR)
    assert mended_once(paid) == ["invoice"]
    assert balance(paid) == -1_500


def test_the_end_of_a_replaced_subscription_that_failed(paid: Payer) -> None:
    old = paid.row.stripe_id
    paid.standin.fault("error", "DELETE", f"/v1/subscriptions/{old}", times=2)
    change_paid_plan(
        organization=paid.organization, version=newest_version("professional"), by=None, at=paid.at
    )
    assert end_replaced() == 0
    assert stripe_client().v1.subscriptions.retrieve(old).status == "active"
    paid.hear()

    assert mended_once(paid) == ["subscription"]

    assert stripe_client().v1.subscriptions.retrieve(old).status == "canceled"
    assert paid.row.version == newest_version("professional")


def _tell_by_hand(payer: Payer) -> None:
    stripe_client().v1.billing.meter_events.create(
        {
            "event_name": "farebox_api_calls",
            "identifier": "by-hand",
            "timestamp": int(payer.at.timestamp()),
            "payload": {"stripe_customer_id": customer_of(payer), "value": "70"},
        }
    )
    payer.pass_time(2 * HOUR)


def _change_item(payer: Payer, **change: Any) -> None:
    subscription = stripe_client().v1.subscriptions.retrieve(payer.row.stripe_id).to_dict()
    fee = next(
        one for one in subscription["items"]["data"] if one["price"]["recurring"]["usage_type"] == "licensed"
    )
    params: Any = {"items": [{"id": fee["id"], **change}], "proration_behavior": "none"}
    stripe_client().v1.subscriptions.update(payer.row.stripe_id, params)


@pytest.mark.parametrize(
    ("change", "what", "advice"),
    [
        (_tell_by_hand, "usage", "cancel that event"),
        (lambda payer: _change_item(payer, quantity=2), "subscription", "Set the quantity to 1"),
        (lambda payer: _change_item(payer, deleted=True), "subscription", "Put them back"),
        (
            lambda payer: stripe_client().v1.subscriptions.update(
                payer.row.stripe_id, {"pause_collection": {"behavior": "void"}}
            ),
            "subscription", "Resume them in Stripe",
        ),
        (lambda payer: stripe_client().v1.customers.delete(customer_of(payer)), "customer", "speak with them"),
    ],
)  # fmt: skip
def test_what_people_have_to_do_is_said(
    paid: Payer, change: Callable[[Payer], Any], what: str, advice: str
) -> None:
    use(paid, 10)
    fill_usage(at=paid.at)
    send_usage(at=paid.at)
    paid.pass_time(HOUR)
    change(paid)

    done = mend_unlike(at=paid.at)

    assert [one.what for one in done.left] == [what]
    assert advice in done.left[0].text
    (finding,) = StripeFinding.objects.filter(closed_at=None)
    assert (finding.organization, advice in finding.text) == (paid.organization, True)
    assert not look_again(finding, at=paid.at)
    if what == "usage":
        assert [hour["counted"] - hour["told"] for hour in finding.behind["hours"]] == [70]


def _deactivate_meter(payer: Payer) -> None:
    meter = payer.row.version.stripe_prices.exclude(meter=None).get().meter
    assert meter is not None
    stripe_client().v1.billing.meters.deactivate(meter.stripe_id)


def _archive_product(payer: Payer) -> None:
    product = payer.row.version.plan.stripe_product.stripe_id
    stripe_client().v1.products.update(product, {"active": False})


@pytest.mark.parametrize("change", [_deactivate_meter, _archive_product])
def test_a_catalogue_broken_by_hand_is_mended(paid: Payer, change: Callable[[Payer], None]) -> None:
    change(paid)
    assert set(mended_once(paid)) == {"price"}


@pytest.mark.parametrize("act", ["void_invoice", "mark_uncollectible"])
def test_an_invoice_closed_by_hand_is_mended(paid: Payer, act: str) -> None:
    client = stripe_client().v1
    method = client.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": customer_of(paid)})
    client.subscriptions.update(paid.row.stripe_id, {"default_payment_method": method.id})
    end_month(paid)
    invoice = paid.invoices[-1]
    assert invoice.state == "open"
    getattr(client.invoices, act)(invoice.stripe_id)

    assert "invoice" in mended_once(paid)

    invoice.refresh_from_db()
    assert invoice.state == {"void_invoice": "void", "mark_uncollectible": "uncollectible"}[act]
