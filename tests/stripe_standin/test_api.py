"""What every request has: keys, idempotency, pages, expansion, search, refusals in Stripe's words."""

import threading
import time
from http.client import HTTPConnection
from typing import Any

import pytest
import stripe

from tests.stripe_standin.conftest import Shop, StandIn


def test_an_idempotency_key_replays_and_refuses_other_parameters(standin: StandIn) -> None:
    first = standin.api.customers.create({"name": "A"}, {"idempotency_key": "k1"})
    again = standin.api.customers.create({"name": "A"}, {"idempotency_key": "k1"})
    assert again.id == first.id
    assert again.last_response is not None
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    with pytest.raises(stripe.IdempotencyError):
        standin.api.customers.create({"name": "B"}, {"idempotency_key": "k1"})
    assert len(standin.api.customers.list().data) == 1


def test_a_key_in_use_is_a_conflict(standin: StandIn) -> None:
    standin.control("POST", "faults", kind="slow", path="/v1/customers", seconds=0.5)
    made: list[Any] = []
    slow = threading.Thread(
        target=lambda: made.append(
            standin.client_with(retries=0).v1.customers.create({}, {"idempotency_key": "k"})
        )
    )
    slow.start()
    while standin.control("GET", "faults")["counters"] == {}:
        time.sleep(0.01)
    with pytest.raises(stripe.StripeError) as refused:
        standin.api.customers.create({}, {"idempotency_key": "k"})
    slow.join()
    assert refused.value.http_status == 409
    assert [customer.id for customer in standin.api.customers.list().data] == [made[0].id]


def test_lists_come_in_pages_newest_first(standin: StandIn) -> None:
    made = [standin.api.customers.create({"name": str(n)}).id for n in range(7)]
    page = standin.api.customers.list({"limit": 3})
    assert ([each.id for each in page.data], page.has_more) == (made[:3:-1], True)
    assert [each.id for each in page.auto_paging_iter()] == made[::-1]
    before = standin.api.customers.list({"limit": 3, "ending_before": made[0]})
    assert ([each.id for each in before.data], before.has_more) == ([made[3], made[2], made[1]], True)
    with pytest.raises(stripe.InvalidRequestError):
        standin.api.customers.list({"limit": 101})


def test_expansion_is_nested_and_reaches_into_lists(standin: StandIn, shop: Shop) -> None:
    price = standin.api.prices.retrieve(shop.calls.id, {"expand": ["product", "tiers"]})
    assert isinstance(price.product, stripe.Product)
    assert price.tiers is not None
    assert [tier.up_to for tier in price.tiers] == [50_000, None]
    listed = standin.api.prices.list({"expand": ["data.product"]})
    assert {each.product.name for each in listed.data} == {"Starter", "API calls"}  # type: ignore[union-attr]
    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        standin.api.prices.retrieve(shop.calls.id, {"expand": ["nickname.nothing.more.than", "wrong"]})


def test_search(standin: StandIn) -> None:
    standin.api.customers.create({"email": "a@example.com", "metadata": {"organization": "7"}})
    wanted = standin.api.customers.create({"email": "b@example.com", "metadata": {"organization": "8"}})
    found = standin.api.customers.search({"query": "metadata['organization']:'8' AND email:'b@example.com'"})
    assert [each.id for each in found.data] == [wanted.id]


@pytest.mark.parametrize(
    ("key", "status"), [("", 401), ("sk_live_0123456789", 401), ("sk_test_01234567", 200)]
)
def test_only_test_keys_are_taken(standin: StandIn, key: str, status: int) -> None:
    connection = HTTPConnection(standin.url.removeprefix("http://"))
    connection.request("GET", "/v1/account", headers={"Authorization": f"Bearer {key}"} if key else {})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status == status


def test_what_is_missing_is_named(standin: StandIn) -> None:
    with pytest.raises(stripe.InvalidRequestError) as missing:
        standin.api.customers.retrieve("cus_none")
    assert (missing.value.http_status, missing.value.code) == (404, "resource_missing")
    with pytest.raises(stripe.InvalidRequestError) as unknown:
        standin.api.subscriptions.create({"customer": "cus_none", "items": [{"price": "price_none"}]})
    assert (unknown.value.http_status, unknown.value.param) == (400, "customer")


def test_a_parameter_that_would_be_ignored_is_reported(standin: StandIn) -> None:
    standin.api.customers.create({"cash_balance": {"settings": {"reconciliation_mode": "manual"}}})
    assert standin.violations() == ["POST /v1/customers: the stand-in ignores the parameter cash_balance"]
    standin.world.violations.clear()


def test_cards(standin: StandIn) -> None:
    customer = standin.api.customers.create({})
    with pytest.raises(stripe.CardError) as declined:
        standin.api.payment_methods.attach("pm_card_chargeDeclined", {"customer": customer.id})
    assert (declined.value.code, declined.value.http_status) == ("card_declined", 402)
    with pytest.raises(stripe.CardError) as poor:
        standin.api.payment_intents.create(
            {
                "amount": 500,
                "currency": "usd",
                "payment_method": "pm_card_chargeDeclinedInsufficientFunds",
                "confirm": True,
            }
        )
    assert poor.value.error is not None
    assert poor.value.error.decline_code == "insufficient_funds"
    setup = standin.api.setup_intents.create(
        {"customer": customer.id, "payment_method": "pm_card_visa", "confirm": True}
    )
    assert setup.status == "succeeded"
    paid = standin.api.payment_intents.create(
        {
            "amount": 500,
            "currency": "jpy",
            "customer": customer.id,
            "payment_method": "pm_card_mastercard",
            "confirm": True,
        }
    )
    assert paid.status == "succeeded"
    refund = standin.api.refunds.create({"payment_intent": paid.id, "amount": 200})
    charge = standin.api.charges.retrieve(
        str(paid.latest_charge), {"expand": ["refunds", "balance_transaction"]}
    )
    assert (refund.status, charge.amount_refunded, charge.refunded) == ("succeeded", 200, False)


def test_a_dispute(standin: StandIn) -> None:
    standin.api.payment_intents.create(
        {"amount": 900, "currency": "usd", "payment_method": "pm_card_createDispute", "confirm": True}
    )
    dispute = standin.api.disputes.list({}).data[0]
    assert (dispute.amount, dispute.status) == (900, "needs_response")
    assert standin.api.disputes.close(dispute.id).status == "lost"
    told = [event.type for event in standin.api.events.list({"limit": 2}).data]
    assert told == ["charge.dispute.closed", "charge.dispute.created"]


def test_an_inquiry_is_updated_and_closed(standin: StandIn) -> None:
    standin.api.payment_intents.create(
        {"amount": 900, "currency": "usd", "payment_method": "pm_card_createDisputeInquiry", "confirm": True}
    )
    dispute = standin.api.disputes.list({}).data[0]
    assert dispute.status == "warning_needs_response"
    assert standin.api.disputes.update(dispute.id, {"metadata": {"seen": "yes"}}).metadata["seen"] == "yes"
    assert standin.api.disputes.close(dispute.id).status == "warning_closed"
    told = [event.type for event in standin.api.events.list({"limit": 3}).data]
    assert told == ["charge.dispute.closed", "charge.dispute.updated", "charge.dispute.created"]


def test_a_card_that_asks_for_3d_secure_is_waited_for(standin: StandIn) -> None:
    customer = standin.api.customers.create({})
    method = standin.api.payment_methods.attach("pm_card_threeDSecure2Required", {"customer": customer.id})
    standin.api.invoice_items.create({"customer": customer.id, "amount": 500, "currency": "usd"})
    invoice = standin.api.invoices.create(
        {"customer": customer.id, "pending_invoice_items_behavior": "include"}
    )
    with pytest.raises(stripe.CardError) as asked:
        standin.api.invoices.pay(invoice.id, {"payment_method": method.id})
    assert asked.value.code == "invoice_payment_intent_requires_action"
    told = {event.type for event in standin.api.events.list({"limit": 20}).data}
    assert {
        "payment_intent.requires_action",
        "invoice.payment_action_required",
        "invoice.payment_failed",
    } <= told
    assert standin.api.invoices.retrieve(invoice.id).status == "open"


def test_a_trial_ended_by_hand_without_a_card_is_paused(standin: StandIn, shop: Shop) -> None:
    subscription = standin.api.subscriptions.create(
        {
            "customer": standin.api.customers.create({}).id,
            "items": [{"price": shop.starter.id}],
            "trial_period_days": 7,
            "trial_settings": {"end_behavior": {"missing_payment_method": "pause"}},
        }
    )
    assert standin.api.subscriptions.update(subscription.id, {"trial_end": "now"}).status == "paused"
    told = [event.type for event in standin.api.events.list({"limit": 2}).data]
    assert "customer.subscription.paused" in told


def test_checkout_counts_tax_and_coupon(standin: StandIn, shop: Shop) -> None:
    rate = standin.api.tax_rates.create({"display_name": "VAT", "percentage": 19, "inclusive": False})
    coupon = standin.api.coupons.create({"amount_off": 900, "currency": "usd", "duration": "once"})
    asked: Any = {
        "mode": "subscription",
        "success_url": "https://example.com",
        "line_items": [{"price": shop.starter.id, "quantity": 1}, {"price": shop.calls.id}],
        "subscription_data": {"default_tax_rates": [rate.id]},
        "discounts": [{"coupon": coupon.id}],
    }
    session = standin.api.checkout.sessions.create(asked)
    assert (session.amount_subtotal, session.amount_total) == (4900, 4760)
    assert session.url is not None
    pay = "email=a%40example.com&cardNumber=4242424242424242&cardExpiry=12%2F34&cardCvc=123"
    connection = HTTPConnection(standin.url.removeprefix("http://"))
    connection.request("POST", session.url.removeprefix(standin.url), pay)
    assert connection.getresponse().status == 303
    connection.close()
    invoice = standin.api.invoices.list({}).data[0]
    assert (invoice.total, invoice.amount_paid, invoice.total_taxes[0].amount) == (4760, 4760, 760)  # type: ignore[index]
    with pytest.raises(stripe.InvalidRequestError, match="no Stripe Tax"):
        standin.api.checkout.sessions.create(asked | {"automatic_tax": {"enabled": True}})
