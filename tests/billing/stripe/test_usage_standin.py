"""Usage through the real stripe-python to the stand-in over HTTP: what it counted is what the rows say, on bad days too."""

import time
from datetime import datetime, timedelta
from threading import Thread
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.db import connection

from billing import tasks
from billing.models import StripeCustomer, StripeFinding, StripeMeter, StripeUsage, UsageState
from billing.stripe import client
from billing.stripe.client import stripe_client
from billing.stripe.outbox import record_meter_error
from billing.stripe.sender import send_usage
from billing.stripe.sink import StripeSink
from billing.stripe.usage import fill_usage
from core.clock import now
from tests.billing.kit import Customer
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.usage_kit import HOUR, metered_customer, row, state_of, told

pytestmark = pytest.mark.django_db(transaction=True)
EVENTS = "/v1/billing/meter_events$"


@pytest.fixture
def customers(stripe_standin: Standin) -> list[Customer]:
    """Three customers on one meter, both known to the stand-in; their periods began two days ago."""
    at = now().replace(microsecond=0) - timedelta(days=2)
    made = [metered_customer(f"Customer {number}", at=at, shard=number) for number in range(3)]
    for known in StripeCustomer.objects.all():
        known.stripe_id = stripe_client().v1.customers.create({"name": str(known.organization)}).id
        known.save()
    meter = StripeMeter.objects.get()
    meter.stripe_id = (
        stripe_client()
        .v1.billing.meters.create(
            {
                "display_name": "Calls",
                "event_name": meter.event_name,
                "default_aggregation": {"formula": "sum"},
            }
        )
        .id
    )
    meter.save()
    return made


def counted(customer: Customer) -> int:
    """What the stand-in has of the customer's period."""
    period, meter = customer.period(), StripeMeter.objects.get()
    found = StripeSink().summary(
        meter=meter.stripe_id,
        customer=StripeCustomer.objects.for_organization(customer.organization).get().stripe_id,
        start=period.starts_at.replace(second=0),
        end=period.ends_at.replace(second=0),
    )
    assert found is not None
    return found


def struck(standin: Standin) -> int:
    """How many requests the faults of this test hit."""
    return sum(fault["struck"] for fault in standin.control("faults")["faults"])


def run(at: datetime) -> None:
    """Runs until nothing is left to do, as beats would make them."""
    for number in range(12):
        fill_usage(at=at)
        send_usage(at=at + number * timedelta(minutes=20))
    assert not StripeUsage.objects.exclude(state=UsageState.SENT).exists()


def test_the_sum_at_stripe_is_the_sum_of_the_rows(customers: list[Customer]) -> None:
    at = now() - HOUR
    for number, customer in enumerate(customers):
        customer.use(1_000 + number)
    assert fill_usage(at=at) == 3
    assert send_usage(at=at).counts["sent"] == 3
    customers[0].use(5)
    assert fill_usage(at=at + HOUR / 2) == 1
    assert str(send_usage(at=at + HOUR / 2)) == "1 sent, 0 waiting, 0 unknown, 0 refused, 0 compared"

    assert [counted(one) for one in customers] == [told(one) for one in customers] == [1_005, 1_001, 1_002]


@pytest.mark.parametrize("kind", ["timeout_after", "timeout_before", "error_after", "error", "rate_limit"])
def test_a_bad_day_counts_nothing_twice(
    customers: list[Customer], stripe_standin: Standin, kind: str
) -> None:
    for number, customer in enumerate(customers):
        customer.use(100 + number)
    stripe_standin.fault(kind, "POST", EVENTS, times=2)
    run(now() - 5 * HOUR)

    assert [counted(one) for one in customers] == [told(one) for one in customers] == [100, 101, 102]
    assert struck(stripe_standin) == 2


def test_two_senders_on_a_bad_day(customers: list[Customer], stripe_standin: Standin) -> None:
    for customer in customers:
        customer.use(40)
    stripe_standin.fault("timeout_after", "POST", EVENTS, times=3, seconds=0.1)
    at = now() - 5 * HOUR

    def beat() -> None:
        try:
            fill_usage(at=at)
            send_usage(at=at)
        finally:
            connection.close()

    beats = [Thread(target=beat) for _ in range(2)]
    for one in beats:
        one.start()
    for one in beats:
        one.join(timeout=60)
    run(at)
    assert [counted(one) for one in customers] == [40] * 3


def test_a_storm_with_two_senders_all_day_counts_everything_once(
    customers: list[Customer], stripe_standin: Standin
) -> None:
    """Usage comes while requests are lost before and after their effect; half of all requests fail."""
    for kind in ("timeout_after", "timeout_before", "error_after", "error", "rate_limit"):
        stripe_standin.fault(kind, "POST", EVENTS, times=None, chance=0.13)
    started, used = now() - 20 * HOUR, [0, 0, 0]

    def beat(at: datetime) -> None:
        try:
            fill_usage(at=at)
            send_usage(at=at)
        finally:
            connection.close()

    for hour in range(12):
        for number, customer in enumerate(customers):
            customer.use(quantity := 10 * hour + number + 1)
            used[number] += quantity
        beats = [Thread(target=beat, args=(started + hour * HOUR,)) for _ in range(2)]
        for one in beats:
            one.start()
        for one in beats:
            one.join(timeout=60)
    lost = struck(stripe_standin)
    stripe_standin.control("faults", "DELETE")
    run(started + 13 * HOUR)

    assert lost >= 10
    assert [counted(one) for one in customers] == [told(one) for one in customers] == used


@pytest.mark.parametrize(("kind", "expected"), [("timeout_after", "there"), ("timeout_before", "missing")])
def test_after_the_window_the_summaries_decide(
    customers: list[Customer], stripe_standin: Standin, kind: str, expected: str
) -> None:
    """Stripe has forgotten the identifier by then: repeating it blindly would count it twice."""
    customer, at = customers[0], now() - 30 * HOUR
    customer.use(9)
    stripe_standin.fault(kind, "POST", EVENTS)
    fill_usage(at=at)
    send_usage(at=at)
    one = StripeUsage.objects.get()
    assert state_of(one) == UsageState.UNKNOWN

    done = send_usage(at=at + 24 * HOUR)
    assert done.counts["compared"] == 1
    assert done.counts["sent"] == (0 if expected == "there" else 1)
    assert state_of(one) == UsageState.SENT
    assert counted(customer) == 9


def test_a_duplicate_is_read_as_sent(customers: list[Customer]) -> None:
    one = row(customers[0], 8, stamped_at=now() - HOUR)
    send_usage(at=now())
    StripeUsage.objects.update(state=UsageState.PENDING, next_attempt_at=now() - HOUR)
    send_usage(at=now())
    assert state_of(one) == UsageState.SENT
    assert counted(customers[0]) == 8


def test_a_correction_is_counted_down(customers: list[Customer]) -> None:
    row(customers[0], 8, stamped_at=now() - HOUR)
    row(customers[0], -3, stamped_at=now() - HOUR)
    send_usage(at=now())
    assert counted(customers[0]) == 5


def test_what_stripe_refuses_is_refused_loudly(customers: list[Customer]) -> None:
    unknown = row(customers[0], stamped_at=now() - HOUR)
    StripeMeter.objects.update(event_name="nobody_knows_it")
    assert send_usage(at=now()).counts["refused"] == 1
    assert state_of(unknown) == UsageState.REFUSED
    assert StripeFinding.objects.get().subject == unknown.identifier


def test_a_wrong_key_refuses_nothing(customers: list[Customer], settings: LazySettings) -> None:
    one = row(customers[0], stamped_at=now() - HOUR)
    settings.STRIPE_SECRET_KEY = "sk_wrong"
    assert send_usage(at=now()).is_stopped
    assert state_of(one) == UsageState.PENDING
    assert StripeFinding.objects.get().subject == "api_key"


def test_nobody_there_leaves_rows_for_later(customers: list[Customer], settings: LazySettings) -> None:
    one = row(customers[0], stamped_at=now() - HOUR)
    settings.STRIPE_API_HOST = "http://127.0.0.1:9"
    assert send_usage(at=now()).is_stopped
    assert state_of(one) == UsageState.UNKNOWN
    assert StripeSink().summary(meter="mtr", customer="cus", start=now(), end=now()) is None


def test_a_report_of_the_stand_in_becomes_a_finding(customers: list[Customer]) -> None:
    one = row(customers[0], stamped_at=now() - HOUR)
    StripeCustomer.objects.filter(organization=customers[0].organization).update(stripe_id="cus_gone")
    send_usage(at=now())
    assert state_of(one) == UsageState.SENT  # accepted, and not counted

    found = record_meter_error(_report(), at=now())
    assert found.ours["rows"] == [one.identifier]
    assert state_of(one) == UsageState.REFUSED


def _report() -> dict[str, Any]:
    for _ in range(50):
        events = stripe_client().raw_request("get", "/v2/core/events").data["data"]
        if events:
            return dict(events[0])
        time.sleep(0.05)
    raise AssertionError("no report came")


def test_the_beat_and_the_command_do_it_all(
    customers: list[Customer], capsys: pytest.CaptureFixture[str], settings: LazySettings
) -> None:
    customers[0].use(3)
    tasks.stripe_usage()
    assert counted(customers[0]) == 3

    for customer in customers[:2]:
        customer.use(4)
    call_command("stripe_send", organization=customers[1].organization.public_id)
    assert capsys.readouterr().out.startswith("1 filled, 1 sent, 0 waiting, 0 unknown, 0 refused")
    assert [counted(one) for one in customers] == [3, 4, 0]
    with pytest.raises(CommandError, match="org_nobody"):
        call_command("stripe_send", organization="org_nobody")
    settings.STRIPE_SECRET_KEY = ""
    tasks.stripe_usage_ending()
    with pytest.raises(CommandError, match="STRIPE_SECRET_KEY"):
        call_command("stripe_send")
    assert client.is_configured() is False
