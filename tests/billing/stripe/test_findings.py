"""Broken by hand at Stripe: each difference is found with both sides and the calls behind it, and closes when it is gone."""

from datetime import timedelta
from typing import Any

import pytest

from billing.models import LineKind, StripeFinding, StripeItem, StripeLine, StripeUsage
from billing.statements import issue_credit_note
from billing.stripe.client import stripe_client
from billing.stripe.compare import compare_again, compare_invoices
from billing.stripe.findings import open_differences
from billing.stripe.items import send_items
from billing.stripe.sender import send_usage
from billing.stripe.usage import fill_usage
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.payer import Payer
from tests.billing.stripe.test_invoices_equal import assert_equal, end_month, use

pytestmark = pytest.mark.django_db(transaction=True)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture
def payer(stripe_standin: Standin) -> Payer:
    payer = Payer.start(stripe_standin)
    payer.subscribe()
    payer.pass_time(14 * DAY + 2 * HOUR)
    payer.hear()
    return payer


def open_findings() -> list[StripeFinding]:
    return list(StripeFinding.objects.filter(closed_at=None).order_by("pk"))


def tell_by_hand(payer: Payer, value: int) -> None:
    """Somebody else sends to our meter."""
    stripe_client().v1.billing.meter_events.create(
        {
            "event_name": "farebox_api_calls",
            "identifier": "by-hand",
            "timestamp": int(payer.at.timestamp()),
            "payload": {
                "stripe_customer_id": payer.organization.stripe_customer.stripe_id,
                "value": str(value),
            },
        }
    )


def test_a_wrong_quantity_with_the_right_amount(payer: Payer) -> None:
    """Both within the included quantity: 0 USD, and still not the same."""
    use(payer, 10_000)
    use(payer, 5)
    payer.pass_time(2 * DAY)
    tell_by_hand(payer, 500)
    hour = payer.at.replace(minute=0, second=0, microsecond=0)
    invoice = end_month(payer)

    compare_invoices(at=payer.at)

    (found,) = open_findings()
    assert (found.invoice, found.organization) == (invoice, payer.organization)
    assert "other quantity, tiers:" in found.text
    assert (found.theirs["quantity"], found.ours["quantity"]) == ("10505", "10005")
    assert (found.theirs["amount_minor"], found.ours["amount_minor"]) == (0, 0)
    behind = found.behind
    assert (behind["events"], behind["recorded"], behind["told"], behind["counted"]) == (
        2,
        10_005,
        10_005,
        10_505,
    )
    assert [(one["hour"], one["told"], one["counted"]) for one in behind["hours"]] == [
        (f"{hour:%Y-%m-%dT%H}", 0, 500)
    ]
    statement = payer.organization.statements.latest("starts_at")
    assert (behind["document"], behind["position"]) == (statement.public_id, found.behind["position"])
    (difference,) = open_differences(payer.organization)
    assert (difference.expected, difference.found) == ("0 for 10505", "0 for 10005")
    assert f"hour {hour:%Y-%m-%dT%H}: told 0, counted 500" in difference.where


def test_usage_that_stripe_did_not_count_in_time(payer: Payer) -> None:
    """A row that was accepted and taken out again: the hour, its row and the hours of calls behind it are named."""
    use(payer, 60_000)
    end_month_without = payer.at
    payer.pass_time(DAY)
    row_count = StripeUsage.objects.count()
    use(payer, 40_000)
    fill_usage(at=payer.at)
    send_usage(at=payer.at)
    row = StripeUsage.objects.latest("pk")
    assert StripeUsage.objects.count() == row_count + 1
    stripe_client().v1.billing.meter_event_adjustments.create(
        {"event_name": "farebox_api_calls", "type": "cancel", "cancel": {"identifier": row.identifier}}
    )
    end_month(payer)

    compare_invoices(at=payer.at)

    (found,) = open_findings()
    assert found.ours["amount_minor"] - found.theirs["amount_minor"] == 5_000
    assert "amount" in found.text
    (hour,) = found.behind["hours"]
    assert (hour["told"], hour["counted"]) == (100_000, 0)
    assert hour["rows"] == [
        {"identifier": row.identifier, "value": 100_000, "state": "sent", "is_late": False}
    ]
    assert [one["units"] for one in hour["usage"]] == [60_000, 40_000]
    assert [one["hour"] for one in hour["usage"]] == [
        f"{end_month_without:%Y-%m-%dT%H}", f"{end_month_without + DAY:%Y-%m-%dT%H}"
    ]  # fmt: skip


def test_an_item_that_somebody_added_is_found_and_closes_when_it_is_ours(payer: Payer) -> None:
    customer = payer.organization.stripe_customer.stripe_id
    made = stripe_client().v1.invoice_items.create({"customer": customer, "amount": 700, "currency": "usd"})
    invoice = end_month(payer)
    compare_invoices(at=payer.at)
    (found,) = open_findings()
    assert (found.theirs["amount_minor"], found.ours["line"]) == (700, "not one of ours")
    compared = StripeLine.objects.filter(invoice=invoice, is_equal=False)
    assert [line.subject for line in compared] == [made.id]

    assert compare_again(at=payer.at) == 1
    assert [one.pk for one in open_findings()] == [found.pk]

    StripeItem.objects.create(
        organization=payer.organization, stripe_subscription=payer.row, kind=LineKind.CREDIT, text="By hand",
        period=payer.organization.statements.latest("starts_at").period, amount_minor=700, currency="USD",
        created_at=payer.at, sent_at=payer.at, stripe_id=made.id,
    )  # fmt: skip
    payer.pass_time(HOUR)
    assert compare_again(at=payer.at) == 1

    assert open_findings() == []
    assert compare_again(at=payer.at) == 0


def test_what_a_credit_note_gave_back_is_no_difference_any_more(payer: Payer) -> None:
    customer = payer.organization.stripe_customer.stripe_id
    stripe_client().v1.invoice_items.create({"customer": customer, "amount": 700, "currency": "usd"})
    invoice = end_month(payer)
    compare_invoices(at=payer.at)
    assert len(open_findings()) == 1
    lines = stripe_client().v1.invoices.line_items.list(invoice.stripe_id).data
    (line,) = [one for one in lines if one.amount == 700]

    for amount in (300, 400):  # the first one gives back a part
        credited = {"type": "invoice_line_item", "invoice_line_item": line.id, "amount": amount}
        note: Any = {"invoice": invoice.stripe_id, "lines": [credited], "credit_amount": amount}
        stripe_client().v1.credit_notes.create(note)
        assert compare_again(at=payer.at) == 1
        assert len(open_findings()) == (1 if amount == 300 else 0)


def test_a_coupon_by_hand_is_found(payer: Payer) -> None:
    client = stripe_client().v1
    coupon = client.coupons.create({"percent_off": 10, "duration": "forever"})
    client.subscriptions.update(payer.row.stripe_id, {"discounts": [{"coupon": coupon.id}]})
    end_month(payer)

    compare_invoices(at=payer.at)

    assert {(one.theirs["amount_minor"], one.ours["amount_minor"]) for one in open_findings()} == {
        (4_410, 4_900)
    }


def test_tax_on_top_is_no_difference(payer: Payer) -> None:
    client = stripe_client().v1
    rate = client.tax_rates.create({"display_name": "VAT", "percentage": 19, "inclusive": False})
    client.subscriptions.update(payer.row.stripe_id, {"default_tax_rates": [rate.id]})
    use(payer, 60_000)

    invoice = end_month(payer)

    assert (invoice.total_minor, invoice.tax_minor) == (7_021, 1_121)
    assert_equal(payer)


def test_an_item_that_was_deleted_at_stripe_is_lacking(payer: Payer) -> None:
    use(payer, 60_000)
    end_month(payer)
    assert_equal(payer)
    statement = payer.organization.statements.latest("starts_at")
    note = issue_credit_note(statement=statement, amount_minor=300, reason="An outage", by=None, at=payer.at)
    send_items(at=payer.at)
    stripe_client().v1.invoice_items.delete(StripeItem.objects.get(statement=note).stripe_id)
    end_month(payer)

    compare_invoices(at=payer.at)

    (found,) = open_findings()
    assert found.subject == f"lacks: {note.public_id} credit"
    assert "come to 0, our lines to -300" in found.text


def test_usage_that_stripe_does_not_bill_is_lacking(payer: Payer) -> None:
    """Somebody took the metered item out of the subscription."""
    use(payer, 60_000)
    subscription = stripe_client().v1.subscriptions.retrieve(payer.row.stripe_id).to_dict()
    gone: Any = [
        {"id": one["id"], "deleted": True}
        for one in subscription["items"]["data"]
        if one["price"]["recurring"]["usage_type"] == "metered"
    ]
    params: Any = {"items": gone, "proration_behavior": "none"}
    stripe_client().v1.subscriptions.update(payer.row.stripe_id, params)
    invoice = end_month(payer)
    assert invoice.total_minor == 4_900

    compare_invoices(at=payer.at)

    found = next(one for one in open_findings() if one.subject.startswith("lacks: "))
    assert found.ours["amount_minor"] == 1_000
    assert "is on no invoice of Stripe's" in found.text
