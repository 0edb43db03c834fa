"""Meter events: what is refused, what is counted, what is reported later."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import stripe

from tests.stripe_standin.conftest import DAY, START, Receiver, Shop, StandIn


def send(standin: StandIn, customer: str, value: str = "1", **fields: Any) -> Any:
    payload = {"stripe_customer_id": customer, "value": value}
    return standin.api.billing.meter_events.create({"event_name": "calls", "payload": payload, **fields})


def test_an_identifier_is_taken_once_in_a_day(
    standin: StandIn, shop: Shop, buyer: Callable[..., Any]
) -> None:
    customer, clock = buyer()
    send(standin, customer.id, identifier="e1")
    with pytest.raises(stripe.InvalidRequestError, match="already exists with identifier e1") as refused:
        send(standin, customer.id, identifier="e1")
    assert refused.value.http_status == 400
    standin.advance(clock, START + DAY + 60)
    send(standin, customer.id, identifier="e1")  # only 24 hours are promised


@pytest.mark.parametrize(
    ("moved", "code"), [(-35 * DAY - 60, "timestamp_too_far_in_past"), (360, "timestamp_in_future")]
)
def test_time_stamps_have_a_window(
    standin: StandIn, shop: Shop, buyer: Callable[..., Any], moved: int, code: str
) -> None:
    customer, _ = buyer()
    with pytest.raises(stripe.InvalidRequestError) as refused:
        send(standin, customer.id, timestamp=START + moved)
    assert refused.value.code == code
    send(standin, customer.id, timestamp=START - 35 * DAY + 60)
    send(standin, customer.id, timestamp=START + 240)


@pytest.mark.parametrize("value", ["1.5", "", "many", "1e3"])
def test_values_are_whole_numbers(
    standin: StandIn, shop: Shop, buyer: Callable[..., Any], value: str
) -> None:
    customer, _ = buyer()
    with pytest.raises(stripe.InvalidRequestError) as refused:
        send(standin, customer.id, value)
    assert refused.value.code == "meter_event_invalid_value"


def test_summaries_leave_out_what_was_cancelled(
    standin: StandIn, shop: Shop, buyer: Callable[..., Any]
) -> None:
    customer, clock = buyer()
    standin.advance(clock, START + 7200)
    send(standin, customer.id, "10", identifier="a", timestamp=START)
    send(standin, customer.id, "-3", identifier="b", timestamp=START + 60)
    send(standin, customer.id, "100", identifier="c", timestamp=START + 3600)
    span: Any = {"customer": customer.id, "start_time": START, "end_time": START + 7200}
    total = standin.api.billing.meters.event_summaries.list(shop.meter.id, span)
    assert [each.aggregated_value for each in total.data] == [107]
    hours = standin.api.billing.meters.event_summaries.list(
        shop.meter.id, span | {"value_grouping_window": "hour"}
    )
    assert [(each.start_time, each.aggregated_value) for each in hours.data] == [
        (START + 3600, 100),
        (START, 7),
    ]
    standin.api.billing.meter_event_adjustments.create(
        {"event_name": "calls", "type": "cancel", "cancel": {"identifier": "c"}}
    )
    total = standin.api.billing.meters.event_summaries.list(shop.meter.id, span)
    assert [each.aggregated_value for each in total.data] == [7]


def test_an_unknown_customer_becomes_a_thin_event(standin: StandIn, shop: Shop, receiver: Receiver) -> None:
    secret = "whsec_thin"
    standin.world.hooks.thin = (receiver.url, secret)
    send(standin, "cus_gone", identifier="lost-1")
    send(standin, "cus_gone", identifier="lost-2")
    standin.control("POST", "hooks/wait", seconds=5)
    while not receiver.got:
        time.sleep(0.01)
    body, signature = receiver.got[0]
    note = standin.client.parse_event_notification(body, signature, secret)
    assert note.type == "v1.billing.meter.error_report_triggered"
    report = standin.client.v2.core.events.retrieve(note.id)
    assert report.related_object.id == shop.meter.id  # type: ignore[union-attr]
    reason = report.data.reason  # type: ignore[union-attr]
    assert (reason.error_count, reason.error_types[0].code) == (2, "meter_event_customer_not_found")


def test_late_usage_counts_while_the_invoice_is_a_draft(
    standin: StandIn, shop: Shop, buyer: Callable[..., Any]
) -> None:
    from tests.stripe_standin.conftest import FEBRUARY

    customer, clock = buyer()
    standin.api.subscriptions.create({"customer": customer.id, "items": [{"price": shop.calls.id}]})
    standin.advance(clock, FEBRUARY + 1800)
    shop.use(customer.id, 60_000, FEBRUARY - 60, "late")
    standin.advance(clock, FEBRUARY + 3700)
    invoice = standin.api.invoices.list({"customer": customer.id}).data[0]
    assert (invoice.status, invoice.total) == ("paid", 1000)
    shop.use(customer.id, 60_000, FEBRUARY - 30, "too late")
    assert standin.api.invoices.retrieve(invoice.id).total == 1000


def test_one_event_at_a_time_for_a_customer(standin: StandIn, shop: Shop, buyer: Callable[..., Any]) -> None:
    customer, _ = buyer()
    standin.control("POST", "faults", kind="slow", path="meter_events", seconds=0.4)
    slow = threading.Thread(target=lambda: send(standin, customer.id, identifier="slow"))
    slow.start()
    while standin.control("GET", "faults")["counters"] == {}:
        time.sleep(0.01)
    with pytest.raises(stripe.RateLimitError):
        send(standin, customer.id, identifier="at once")
    slow.join()
    send(standin, customer.id, identifier="at once")
