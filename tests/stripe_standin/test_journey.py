"""The main way, in a browser: Checkout, a month of use, the invoice; a failed renewal, the portal, payment."""

from collections.abc import Callable
from typing import Any

import stripe

from tests.stripe_standin.conftest import DAY, FEBRUARY, START, Receiver, Shop, StandIn


def pay_by_card(page: Any, number: str) -> None:
    page.get_by_label("Card number").fill(number)
    page.get_by_label("Expiration").fill("12 / 34")
    page.get_by_label("CVC").fill("123")
    page.locator("button[type=submit]").last.click()


def subscribe(
    standin: StandIn, shop: Shop, page: Any, receiver: Receiver
) -> tuple[stripe.Customer, str, Any]:
    """Through Checkout in the browser: a refused card first, then one that pays."""
    clock = standin.api.test_helpers.test_clocks.create({"frozen_time": START}).id
    customer = standin.api.customers.create({"email": "alice@example.com", "test_clock": clock})
    session = standin.api.checkout.sessions.create(
        {
            "mode": "subscription",
            "customer": customer.id,
            "client_reference_id": "org_1",
            "success_url": f"{receiver.url}?session={{CHECKOUT_SESSION_ID}}",
            "line_items": [{"price": shop.starter.id, "quantity": 1}, {"price": shop.calls.id}],
            "subscription_data": {"metadata": {"organization": "org_1"}},
        }
    )
    page.goto(session.url)
    assert "$49.00" in page.get_by_text("Total due today").locator("..").inner_text()
    pay_by_card(page, "4000 0000 0000 9995")
    assert page.get_by_role("alert").inner_text() == "Your card has insufficient funds."
    assert standin.api.subscriptions.list({"customer": customer.id}).data == []
    pay_by_card(page, "4242 4242 4242 4242")
    page.wait_for_url(f"**/hook?session={session.id}")
    done = standin.api.checkout.sessions.retrieve(
        session.id, {"expand": ["subscription.latest_invoice", "line_items"]}
    )
    return customer, clock, done


def test_from_checkout_to_an_invoice_for_what_was_used(
    standin: StandIn, shop: Shop, receiver: Receiver, browser_page: Any
) -> None:
    customer, clock, done = subscribe(standin, shop, browser_page, receiver)
    assert (done.status, done.payment_status, done.client_reference_id) == ("complete", "paid", "org_1")
    assert [item.description for item in done.line_items.data] == ["Starter", "API calls"]
    subscription = done.subscription
    assert (subscription.status, subscription.metadata.to_dict()) == ("active", {"organization": "org_1"})
    assert (subscription.latest_invoice.status, subscription.latest_invoice.total) == ("paid", 4900)
    assert {item.current_period_end for item in subscription["items"].data} == {FEBRUARY}

    standin.advance(clock, START + 20 * DAY)
    shop.use(customer.id, 100_000, START + 10 * DAY, "first")
    shop.use(customer.id, 25_000, START + 20 * DAY, "second")
    shop.use(customer.id, -5_000, START + 20 * DAY, "corrected")
    standin.advance(clock, FEBRUARY + 60)
    draft = standin.api.invoices.list({"customer": customer.id, "limit": 1}).data[0]
    assert (draft.status, draft.automatically_finalizes_at) == ("draft", FEBRUARY + 3600)

    standin.advance(clock, FEBRUARY + 2 * 3600)
    invoice = standin.api.invoices.retrieve(draft.id, {"expand": ["payments.data.payment.payment_intent"]})
    assert (invoice.status, invoice.total, invoice.amount_paid, invoice.billing_reason) == (
        "paid",
        11_900,
        11_900,
        "subscription_cycle",
    )
    assert invoice.parent.subscription_details.subscription == subscription.id
    assert invoice.payments.data[0].payment.payment_intent.status == "succeeded"
    assert [(line.description, line.quantity, line.amount) for line in invoice.lines.data] == [
        ("1 × Starter (at $49.00 / month)", 1, 4900),
        ("50,000 × API calls (Tier 1 at $0.00 / month)", 50_000, 0),
        ("70,000 × API calls (Tier 2 at $0.001 / month)", 70_000, 7000),
    ]
    used = invoice.lines.data[2]
    assert (used.period.start, used.period.end) == (START, FEBRUARY)
    assert used.pricing.price_details.price == shop.calls.id


def test_a_failed_renewal_is_paid_through_the_portal(
    standin: StandIn, shop: Shop, receiver: Receiver, browser_page: Any
) -> None:
    customer, clock, _ = subscribe(standin, shop, browser_page, receiver)
    session = standin.api.billing_portal.sessions.create(
        {"customer": customer.id, "return_url": receiver.url}
    )
    page = browser_page
    page.goto(session.url)
    page.get_by_role("link", name="Change payment method").click()
    pay_by_card(page, "4000 0000 0000 0341")
    assert "0341" in page.locator("main").inner_text()

    standin.advance(clock, FEBRUARY + 2 * 3600)
    invoice = standin.api.invoices.list({"customer": customer.id, "limit": 1}).data[0]
    subscription = standin.api.subscriptions.list({"customer": customer.id}).data[0]
    assert (invoice.status, invoice.attempt_count, invoice.next_payment_attempt) == (
        "open",
        1,
        FEBRUARY + 3600 + DAY,
    )
    assert subscription.status == "past_due"

    page.reload()
    page.get_by_role("link", name=invoice.number).click()
    pay_by_card(page, "4242 4242 4242 4242")
    page.get_by_text("Paid ·").wait_for()
    assert standin.api.invoices.retrieve(invoice.id).amount_paid == 4900
    subscription = standin.api.subscriptions.list({"customer": customer.id}).data[0]
    assert (subscription.status, standin.api.customers.retrieve(customer.id).delinquent) == ("active", False)


def test_the_portal_cancels_takes_it_back_and_keeps_addresses(
    standin: StandIn, shop: Shop, receiver: Receiver, browser_page: Any
) -> None:
    customer, clock, done = subscribe(standin, shop, browser_page, receiver)
    page = browser_page
    page.goto(standin.api.billing_portal.sessions.create({"customer": customer.id}).url)
    page.get_by_role("link", name="Cancel plan").click()
    page.get_by_role("button", name="Cancel subscription").click()
    assert standin.api.subscriptions.retrieve(done.subscription.id).cancel_at == FEBRUARY
    page.get_by_role("button", name="Don't cancel").click()
    page.get_by_role("link", name="Cancel plan").wait_for()
    assert standin.api.subscriptions.retrieve(done.subscription.id).cancel_at is None

    page.get_by_role("link", name="Update information").click()
    page.get_by_label("Address").fill("1 Main Street")
    page.get_by_label("Country").fill("DE")
    page.get_by_label("Tax ID").fill("DE123456789")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("1 Main Street").wait_for()
    kept = standin.api.customers.retrieve(customer.id, {"expand": ["tax_ids"]})
    assert (kept.address.country, kept.tax_ids.data[0].value) == ("DE", "DE123456789")


def test_a_trial_without_a_card(standin: StandIn, shop: Shop, receiver: Receiver, browser_page: Any) -> None:
    session = standin.api.checkout.sessions.create(
        {
            "mode": "subscription",
            "success_url": receiver.url,
            "payment_method_collection": "if_required",
            "line_items": [{"price": shop.starter.id, "quantity": 1}],
            "subscription_data": {
                "trial_period_days": 14,
                "trial_settings": {"end_behavior": {"missing_payment_method": "pause"}},
            },
        }
    )
    page = browser_page
    page.goto(session.url)
    assert page.get_by_label("Card number").count() == 0
    page.get_by_label("Email").fill("bob@example.com")
    page.get_by_role("button", name="Start trial").click()
    page.wait_for_url("**/hook")
    done = standin.api.checkout.sessions.retrieve(session.id, {"expand": ["subscription", "customer"]})
    assert (done.subscription.status, done.customer.email) == ("trialing", "bob@example.com")

    standin.control("POST", "clock/advance", seconds=15 * DAY)
    ended = standin.api.subscriptions.retrieve(done.subscription.id)
    told = [event.type for event in standin.api.events.list({"limit": 100}).data]
    assert ended.status == "paused"
    assert {"customer.subscription.trial_will_end", "customer.subscription.paused"} <= set(told)


def test_pages_are_usable_on_a_telephone(
    standin: StandIn, shop: Shop, receiver: Receiver, new_page: Callable[..., Any]
) -> None:
    session = standin.api.checkout.sessions.create(
        {
            "mode": "subscription",
            "success_url": receiver.url,
            "line_items": [{"price": shop.starter.id, "quantity": 1}],
        }
    )
    page = new_page(width=360, height=740, dark=True)
    page.goto(session.url)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
