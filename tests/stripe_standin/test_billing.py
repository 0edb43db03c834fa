"""Subscriptions and invoices over time: what was shown beforehand is what is charged."""

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from tests.stripe_standin.conftest import DAY, FEBRUARY, START, Shop, StandIn, give_card

Buyer = Callable[..., tuple[stripe.Customer, str]]
MONTH = FEBRUARY - START


def subscribe(standin: StandIn, customer: str, *prices: stripe.Price, **fields: Any) -> stripe.Subscription:
    sent: Any = {"customer": customer, "items": [{"price": price.id} for price in prices], **fields}
    return standin.api.subscriptions.create(sent)


def newest(standin: StandIn, customer: str) -> stripe.Invoice:
    return standin.api.invoices.list({"customer": customer, "limit": 1}).data[0]


def item_of(subscription: stripe.Subscription, price: stripe.Price) -> str:
    return next(item.id for item in subscription["items"].data if item.price.id == price.id)


def left(amount: int) -> int:
    """What of a month's `amount` falls on the time after its tenth day, rounded half up."""
    return (amount * (MONTH - 10 * DAY) * 2 // MONTH + 1) // 2


def told(standin: StandIn) -> list[str]:
    return [event.type for event in standin.api.events.list({"limit": 100}).auto_paging_iter()]


@pytest.mark.parametrize("behavior", ["always_invoice", "create_prorations", "none"])
def test_an_upgrade_costs_what_its_preview_showed(
    standin: StandIn, shop: Shop, buyer: Buyer, behavior: Any
) -> None:
    customer, clock = buyer()
    subscription = subscribe(standin, customer.id, shop.starter, shop.calls)
    growth = shop.flat("Growth", 19_900)
    at = START + 10 * DAY
    standin.advance(clock, at)
    items = [{"id": item_of(subscription, shop.starter), "price": growth.id}]
    asked: Any = {"items": items, "proration_behavior": behavior, "proration_date": at}
    preview = standin.api.invoices.create_preview(
        {"subscription": subscription.id, "subscription_details": asked}
    )
    standin.api.subscriptions.update(subscription.id, asked)
    credit, debit = -left(4900), left(19_900)
    if behavior == "always_invoice":
        invoice = newest(standin, customer.id)
        assert [line.amount for line in invoice.lines.data] == [credit, debit]
        assert [line.description for line in invoice.lines.data] == [
            "Unused time on Starter after 25 Jan 2026",
            "Remaining time on Growth after 25 Jan 2026",
        ]
        assert invoice.lines.data[0].parent.subscription_item_details.proration  # type: ignore[union-attr]
        assert (invoice.status, invoice.billing_reason) == ("paid", "subscription_update")
    else:
        standin.advance(clock, FEBRUARY + 2 * 3600)
        invoice = newest(standin, customer.id)
    expected = {
        "always_invoice": credit + debit,
        "create_prorations": credit + debit + 19_900,
        "none": 19_900,
    }
    assert (preview.total, invoice.total) == (expected[behavior], expected[behavior])


def test_a_new_cycle_settles_the_old_one_with_our_own_credit(
    standin: StandIn, shop: Shop, buyer: Buyer
) -> None:
    """The project's rule for upgrades: a new anchor, no proration of Stripe's, a credit that we computed."""
    customer, clock = buyer()
    subscription = subscribe(standin, customer.id, shop.starter, shop.calls)
    growth, more = shop.flat("Growth", 19_900), shop.graduated(shop.meter.id, included=500_000)
    at = START + 10 * DAY
    standin.advance(clock, at)
    shop.use(customer.id, 60_000, at - 3600, "before")
    change: Any = {
        "items": [
            {"id": item_of(subscription, shop.starter), "price": growth.id},
            {"id": item_of(subscription, shop.calls), "price": more.id},
        ],
        "billing_cycle_anchor": "now",
        "proration_behavior": "none",
    }
    credit: Any = [{"amount": -2000, "currency": "usd", "description": "Credit"}]
    preview = standin.api.invoices.create_preview(
        {"subscription": subscription.id, "subscription_details": change, "invoice_items": credit}
    )
    standin.api.invoice_items.create(
        {"customer": customer.id, "subscription": subscription.id, "amount": -2000, "currency": "usd"}
    )
    changed = standin.api.subscriptions.update(subscription.id, change)
    invoice = newest(standin, customer.id)
    assert preview.total == invoice.total == invoice.amount_paid == 19_900 + 1000 - 2000
    assert changed.billing_cycle_anchor == at
    shop.use(customer.id, 400_000, at + 60, "after")
    standin.advance(clock, at + 31 * DAY + 2 * 3600)
    assert (
        newest(standin, customer.id).total == 19_900
    )  # the new plan includes 500,000, counted from the change


def test_a_removed_meter_is_billed_until_then(standin: StandIn, shop: Shop, buyer: Buyer) -> None:
    customer, clock = buyer()
    subscription = subscribe(standin, customer.id, shop.starter, shop.calls)
    standin.advance(clock, START + 3 * DAY)
    shop.use(customer.id, 55_000, START + DAY, "u")
    standin.api.subscription_items.delete(item_of(subscription, shop.calls))
    waiting = standin.api.invoice_items.list({"customer": customer.id, "pending": True})
    assert sorted(item.amount for item in waiting.data) == [0, 500]


def test_dunning_tries_on_its_days_and_then_cancels(standin: StandIn, shop: Shop, buyer: Buyer) -> None:
    customer, clock = buyer()
    subscription = subscribe(standin, customer.id, shop.starter)
    give_card(standin, customer.id, "pm_card_chargeCustomerFail")
    failed_at = FEBRUARY + 3600
    standin.advance(clock, failed_at + 60)
    seen = [newest(standin, customer.id).next_payment_attempt]
    assert standin.api.subscriptions.retrieve(subscription.id).status == "past_due"
    for day in (1, 3, 5):
        standin.advance(clock, failed_at + day * DAY + 60)
        seen.append(newest(standin, customer.id).next_payment_attempt)
    assert seen == [failed_at + day * DAY for day in (1, 3, 5, 7)]
    standin.advance(clock, failed_at + 8 * DAY)
    ended = standin.api.subscriptions.retrieve(subscription.id)
    assert (ended.status, ended.cancellation_details.reason) == ("canceled", "payment_failed")  # type: ignore[union-attr]
    assert newest(standin, customer.id).attempt_count == 5


@pytest.mark.parametrize("after", ["unpaid", "past_due"])
def test_dunning_can_leave_it_open_and_payment_brings_it_back(
    standin: StandIn, shop: Shop, buyer: Buyer, after: str
) -> None:
    standin.control("POST", "settings", after_retries=after, retry_days=[1])
    customer, clock = buyer()
    subscription = subscribe(standin, customer.id, shop.starter)
    give_card(standin, customer.id, "pm_card_chargeCustomerFail")
    standin.advance(clock, FEBRUARY + 3 * DAY)
    assert standin.api.subscriptions.retrieve(subscription.id).status == after
    with pytest.raises(stripe.CardError):
        standin.api.invoices.pay(newest(standin, customer.id).id)
    good = give_card(standin, customer.id, "pm_card_visa")
    standin.api.invoices.pay(newest(standin, customer.id).id, {"payment_method": good.id})
    assert standin.api.subscriptions.retrieve(subscription.id).status == "active"


def test_cancelling_now_at_the_end_and_not_at_all(standin: StandIn, shop: Shop, buyer: Buyer) -> None:
    customer, clock = buyer()
    subscription = subscribe(standin, customer.id, shop.starter, shop.calls)
    standin.api.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    back = standin.api.subscriptions.update(subscription.id, {"cancel_at_period_end": False})
    assert (back.cancel_at_period_end, back.cancel_at) == (False, None)
    standin.advance(clock, START + DAY)
    shop.use(customer.id, 51_000, START + DAY, "u")
    standin.api.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    standin.advance(clock, FEBRUARY + 2 * 3600)
    ended = standin.api.subscriptions.retrieve(subscription.id)
    assert (ended.status, ended.ended_at) == ("canceled", FEBRUARY)
    assert newest(standin, customer.id).total == 100  # the usage alone
    other = subscribe(standin, customer.id, shop.starter)
    assert standin.api.subscriptions.cancel(other.id).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError):
        standin.api.subscriptions.cancel(other.id)


def test_a_trial_with_a_card_becomes_paid(standin: StandIn, shop: Shop, buyer: Buyer) -> None:
    customer, clock = buyer()
    subscription = subscribe(standin, customer.id, shop.starter, shop.calls, trial_period_days=14)
    assert (subscription.status, newest(standin, customer.id).total) == ("trialing", 0)
    standin.advance(clock, START + 5 * DAY)
    shop.use(customer.id, 90_000, START + 4 * DAY, "in the trial")
    standin.advance(clock, START + 14 * DAY + 2 * 3600)
    assert standin.api.subscriptions.retrieve(subscription.id).status == "active"
    assert (newest(standin, customer.id).total, newest(standin, customer.id).status) == (4900, "paid")
    assert "customer.subscription.trial_will_end" in told(standin)


@pytest.mark.parametrize(
    ("behavior", "status"),
    [("void", "void"), ("mark_uncollectible", "uncollectible"), ("keep_as_draft", "draft")],
)
def test_a_paused_collection(standin: StandIn, shop: Shop, buyer: Buyer, behavior: Any, status: str) -> None:
    customer, clock = buyer()
    subscription = subscribe(standin, customer.id, shop.starter)
    standin.api.subscriptions.update(subscription.id, {"pause_collection": {"behavior": behavior}})
    standin.advance(clock, FEBRUARY + 2 * 3600)
    assert newest(standin, customer.id).status == status
    standin.api.subscriptions.update(subscription.id, {"pause_collection": ""})
    assert standin.api.subscriptions.retrieve(subscription.id).pause_collection is None


def test_the_first_payment_can_fail(standin: StandIn, shop: Shop, buyer: Buyer) -> None:
    customer, clock = buyer("pm_card_chargeCustomerFail")
    with pytest.raises(stripe.CardError):
        subscribe(standin, customer.id, shop.starter, payment_behavior="error_if_incomplete")
    assert standin.api.subscriptions.list({"customer": customer.id, "status": "all"}).data == []
    waiting = subscribe(standin, customer.id, shop.starter, expand=["latest_invoice.confirmation_secret"])
    assert waiting.status == "incomplete"
    assert waiting.latest_invoice.confirmation_secret.client_secret  # type: ignore[union-attr]
    standin.advance(clock, START + DAY)
    assert standin.api.subscriptions.retrieve(waiting.id).status == "incomplete_expired"
    assert newest(standin, customer.id).status == "void"


def test_an_invoice_by_hand_with_tax_credit_note_and_refund(
    standin: StandIn, shop: Shop, buyer: Buyer
) -> None:
    customer, _ = buyer()
    rate = standin.api.tax_rates.create({"display_name": "VAT", "percentage": 19, "inclusive": False})
    standin.api.invoice_items.create(
        {"customer": customer.id, "amount": 1050, "currency": "usd", "description": "Set-up"}
    )
    draft = standin.api.invoices.create(
        {"customer": customer.id, "pending_invoice_items_behavior": "include", "default_tax_rates": [rate.id]}
    )
    assert (draft.status, draft.subtotal, draft.total, draft.total_taxes[0].amount) == (
        "draft",
        1050,
        1250,
        200,
    )  # type: ignore[index]
    standin.api.invoices.finalize_invoice(draft.id)
    note = standin.api.credit_notes.create({"invoice": draft.id, "amount": 250})
    assert (note.type, standin.api.invoices.retrieve(draft.id).amount_remaining) == ("pre_payment", 1000)
    paid = standin.api.invoices.pay(draft.id)
    assert (paid.status, paid.amount_paid) == ("paid", 1000)
    back = standin.api.credit_notes.create(
        {
            "invoice": draft.id,
            "amount": 600,
            "refund_amount": 400,
            "credit_amount": 200,
            "reason": "order_change",
        }
    )
    assert back.refunds[0].amount_refunded == 400
    assert standin.api.customers.retrieve(customer.id).balance == -200
    standin.api.invoice_items.create({"customer": customer.id, "amount": 150, "currency": "usd"})
    small = standin.api.invoices.create(
        {"customer": customer.id, "pending_invoice_items_behavior": "include"}
    )
    done = standin.api.invoices.finalize_invoice(small.id)
    assert (done.status, done.amount_due, done.ending_balance) == ("paid", 0, -50)


def test_a_downgrade_leaves_a_credit(standin: StandIn, shop: Shop, buyer: Buyer) -> None:
    customer, clock = buyer()
    growth = shop.flat("Growth", 19_900)
    subscription = subscribe(standin, customer.id, growth)
    standin.advance(clock, START + DAY)
    standin.api.subscriptions.update(
        subscription.id,
        {
            "items": [{"id": item_of(subscription, growth), "price": shop.starter.id}],
            "proration_behavior": "always_invoice",
        },
    )
    invoice = newest(standin, customer.id)
    assert (invoice.status, invoice.amount_due) == ("paid", 0)
    assert invoice.total < 0
    assert standin.api.customers.retrieve(customer.id).balance == invoice.total


@pytest.mark.parametrize(("duration", "later"), [("once", 4900), ("forever", 3675)])
def test_a_coupon_is_taken_off(standin: StandIn, shop: Shop, buyer: Buyer, duration: Any, later: int) -> None:
    customer, clock = buyer()
    coupon = standin.api.coupons.create({"percent_off": 25, "duration": duration})
    subscribe(standin, customer.id, shop.starter, discounts=[{"coupon": coupon.id}])
    invoice = newest(standin, customer.id)
    assert (invoice.subtotal, invoice.total, invoice.amount_paid) == (4900, 3675, 3675)
    standin.advance(clock, FEBRUARY + 2 * 3600)
    assert newest(standin, customer.id).amount_paid == later


def test_money_taken_elsewhere_and_money_given_up(standin: StandIn, shop: Shop, buyer: Buyer) -> None:
    customer, clock = buyer("")
    subscription = subscribe(
        standin, customer.id, shop.starter, collection_method="send_invoice", days_until_due=14
    )
    standin.advance(clock, START + 2 * 3600)
    first = newest(standin, customer.id)
    assert (subscription.status, first.status, first.due_date) == ("active", "open", START + 3600 + 14 * DAY)
    assert standin.api.invoices.send_invoice(first.id).status == "open"
    assert standin.api.invoices.pay(first.id, {"paid_out_of_band": True}).amount_paid_off_stripe == 4900
    standin.advance(clock, FEBRUARY + 15 * DAY)
    late = newest(standin, customer.id)
    assert standin.api.subscriptions.retrieve(subscription.id).status == "past_due"
    assert standin.api.invoices.mark_uncollectible(late.id).status == "uncollectible"
    assert standin.api.invoices.void_invoice(late.id).status == "void"


def test_years_and_the_31st(standin: StandIn, shop: Shop) -> None:
    clock = standin.api.test_helpers.test_clocks.create({"frozen_time": 1_769_860_800}).id  # 2026-01-31 12:00
    customer = standin.api.customers.create({"test_clock": clock})
    give_card(standin, customer.id, "pm_card_visa")
    monthly = subscribe(standin, customer.id, shop.starter)
    yearly = subscribe(standin, customer.id, shop.flat("Yearly", 49_000, interval="year"))
    assert monthly["items"].data[0].current_period_end == 1_772_280_000  # 28 February
    assert yearly["items"].data[0].current_period_end == 1_801_396_800
    standin.advance(clock, 1_772_280_000 + 60)
    renewed = standin.api.subscriptions.retrieve(monthly.id)
    assert renewed["items"].data[0].current_period_end == 1_774_958_400  # 31 March


def test_a_downgrade_waits_for_the_end_by_a_schedule(standin: StandIn, shop: Shop, buyer: Buyer) -> None:
    customer, clock = buyer()
    growth, more = shop.flat("Growth", 19_900), shop.graduated(shop.meter.id, included=500_000)
    subscription = subscribe(standin, customer.id, growth, more)
    schedule = standin.api.subscription_schedules.create({"from_subscription": subscription.id})
    now: Any = [{"price": growth.id}, {"price": more.id}]
    then: Any = [{"price": shop.starter.id}, {"price": shop.calls.id}]
    end: Any = {"interval": "month"}
    standin.api.subscription_schedules.update(
        schedule.id,
        {
            "end_behavior": "release",
            "phases": [
                {"items": now, "start_date": START, "end_date": FEBRUARY},
                {"items": then, "duration": end, "proration_behavior": "none"},
            ],
        },
    )
    standin.advance(clock, START + DAY)
    shop.use(customer.id, 501_000, START + DAY, "before")
    standin.advance(clock, FEBRUARY + 2 * 3600)
    invoice = newest(standin, customer.id)
    assert [line.amount for line in invoice.lines.data] == [
        4900,
        0,
        100,
    ]  # the new fee, the old meter's tiers
    after = standin.api.subscriptions.retrieve(subscription.id, {"expand": ["schedule"]})
    assert {item.price.id for item in after["items"].data} == {shop.starter.id, shop.calls.id}
    shop.use(customer.id, 60_000, FEBRUARY + 3600, "after")
    standin.advance(clock, FEBRUARY + 28 * DAY + 2 * 3600)
    assert newest(standin, customer.id).total == 4900 + 1000
    assert standin.api.subscription_schedules.retrieve(schedule.id).status == "released"
