"""Filling the outbox: its rows add up to the ledger's quantities, and with the statement to the statement's."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from threading import Barrier, Thread

import pytest
from django.conf import LazySettings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.models import StripeMeter, StripePrice, StripeSubscription, StripeUsage
from billing.stripe.told import told_differences
from billing.stripe.usage import fill_ending, fill_stated, fill_to_statement, fill_usage, stamp
from core.clock import now, to_micros
from core.ids import event_id, new_nonce
from metering.events import CORRECTION, Event
from metering.services import ingest_history
from plans.models import Aggregation, Meter, Period, Plan, PlanVersion, PriceComponent
from plans.publishing import publish_version
from tests.billing.kit import START, Customer
from tests.billing.stripe.usage_kit import HOUR, at_stripe, meter_prices, metered_customer, told
from tests.factories import create_meter

pytestmark = pytest.mark.django_db
AT = START + timedelta(days=3, minutes=20)
KEY = "sk_test_" + "4eC39HqLyjWDarjtT1zdp7dc"


@pytest.fixture(autouse=True)
def configured(settings: LazySettings) -> None:
    settings.STRIPE_SECRET_KEY = KEY


def record(
    customer: Customer, quantity: str, *, meter: Meter, at: datetime, mode: str = "live", **properties: str
) -> Event:
    """Usage of the first period with these properties, stored now."""
    at_us = to_micros(at)
    event = Event(
        id=event_id(at_us, new_nonce()),
        occurred_at_us=at_us,
        received_at_us=at_us,
        organization_id=customer.organization.pk,
        mode=mode,
        meter_id=meter.pk,
        period_id=customer.period().pk,
        quantity=Decimal(quantity),
        door="ingest",
        properties=properties,
    )
    assert ingest_history([event], at=at).stored == 1
    return event


def correct(customer: Customer, event: Event, quantity: int) -> None:
    """A correction of an event by so much."""
    corrected = replace(
        event,
        id=event_id(event.occurred_at_us, new_nonce()),
        quantity=Decimal(quantity),
        reason=CORRECTION,
        corrects_id=event.id,
        corrects_at_us=event.occurred_at_us,
        door="correct",
    )
    assert ingest_history([corrected], at=now()).stored == 1


def version_of(*components: PriceComponent) -> PlanVersion:
    plan = Plan.objects.create(slug="metered", name="Metered", position=99)
    version = PlanVersion.objects.create(plan=plan, number=1, fee_minor=100)
    for number, component in enumerate(components):
        component.version, component.position = version, number
        component.save()
    return publish_version(version=version, by=None, at=START)


def test_what_was_used_is_one_row_and_told_once() -> None:
    customer = metered_customer()
    customer.use(1_200)

    assert fill_usage(at=AT) == 1
    assert fill_usage(at=AT) == 0

    only = StripeUsage.objects.get()
    owner, meter, period = customer.organization.public_id, StripeMeter.objects.get(), customer.period()
    assert only.identifier == f"farebox-{owner}-{meter.pk}-{period.pk}-2026021308-1"
    assert (only.value, only.hour, only.stamped_at) == (1_200, AT.replace(minute=0), AT)


def test_late_usage_is_another_row_of_the_hour_and_a_correction_a_negative_one() -> None:
    customer = metered_customer()
    event = customer.use(1_200)
    fill_usage(at=AT)
    customer.use(30)
    fill_usage(at=AT + timedelta(minutes=5))
    correct(customer, event, -50)
    fill_usage(at=AT + HOUR)

    rows = StripeUsage.objects.order_by("pk").values_list("hour", "sequence", "value")
    hour = AT.replace(minute=0)
    assert list(rows) == [(hour, 1, 1_200), (hour, 2, 30), (hour + HOUR, 1, -50)]
    assert told(customer) == 1_180


def test_units_are_whole_and_what_is_begun_waits() -> None:
    meter = create_meter("traffic", decimals=3, unit="GB")
    version = version_of(PriceComponent(meter=meter, unit_price=Decimal("0.1")))
    customer = Customer.start(version=version)
    meter_prices(version, scale=2)
    at_stripe(customer)

    customer.use("1.239", meter=meter)
    fill_usage(at=AT)
    assert told(customer) == 123
    customer.use("0.001", meter=meter)
    fill_usage(at=AT + HOUR)
    assert told(customer) == 124


def test_dimensions_go_to_the_component_that_prices_them() -> None:
    meter = create_meter("places")
    meter.dimensions = ["region"]
    meter.save()
    version = version_of(
        PriceComponent(meter=meter, unit_price=Decimal("0.1")),
        PriceComponent(meter=meter, unit_price=Decimal("0.2"), match={"region": "eu"}),
    )
    customer = Customer.start(version=version)
    everywhere, europe = meter_prices(version)
    at_stripe(customer)
    for quantity, region in (("5", "us"), ("7", "eu"), ("9", "asia")):
        record(customer, quantity, meter=meter, at=START + HOUR, region=region)

    assert fill_usage(at=AT) == 2
    assert dict(StripeUsage.objects.values_list("meter_id", "value")) == {everywhere.pk: 14, europe.pk: 7}


def test_a_maximum_is_told_as_its_differences() -> None:
    meter = create_meter("seats")
    meter.aggregation = Aggregation.MAX
    meter.save()
    version = version_of(PriceComponent(meter=meter, unit_price=Decimal(3)))
    customer = Customer.start(version=version)
    meter_prices(version)
    at_stripe(customer)
    for number, seats in enumerate(("4", "9", "6")):
        record(customer, seats, meter=meter, at=START + number * HOUR)
        fill_usage(at=AT + number * HOUR)

    assert list(StripeUsage.objects.order_by("pk").values_list("value", flat=True)) == [4, 5]


def test_only_what_stripe_meters_and_only_customers_of_stripe() -> None:
    away = Customer.start("Without Stripe")
    away.use(10)
    unmetered = metered_customer("Without a metered price")
    unmetered.use(10)
    StripePrice.objects.all().delete()

    assert fill_usage(at=AT) == 0


def test_calls_with_test_keys_are_never_told() -> None:
    customer = metered_customer()
    record(customer, "10", meter=create_meter(), at=START + HOUR, mode="test")
    assert fill_usage(at=AT) == 0


def test_an_ended_period_and_the_running_one_are_told_apart() -> None:
    customer = metered_customer()
    customer.use(10)
    customer.use(20, month=1)
    first, second = customer.period(), customer.period(1)

    assert fill_usage(at=second.starts_at + timedelta(minutes=10)) == 2
    rows = StripeUsage.objects.order_by("stamped_at").values_list("period", "value", "stamped_at")
    assert list(rows) == [
        (first.pk, 10, first.ends_at - timedelta(seconds=1)),
        (second.pk, 20, second.starts_at + timedelta(minutes=10)),
    ]


def test_an_upgrade_at_once_tells_each_period_to_its_own_time() -> None:
    """The old subscription ends at Stripe and a new one starts; both periods count on the same meter."""
    customer = metered_customer()
    customer.use(10)
    period = customer.period()
    middle = START + timedelta(days=15)
    StripeSubscription.objects.update(ended_at=middle)
    Period.objects.for_organization(customer.organization).filter(starts_at__gt=START).delete()
    Period.objects.filter(pk=period.pk).update(ends_at=middle)
    larger = version_of(PriceComponent(meter=create_meter(), unit_price=Decimal("0.5")))
    meter_prices(larger)
    after = Period.objects.create(
        organization=customer.organization,
        subscription=customer.subscription,
        version=larger,
        anchor=middle,
        starts_at=middle,
        ends_at=middle + timedelta(days=30),
    )
    at_stripe(customer, started_at=middle, stripe_id="sub_test_larger")
    customer.use(7, month=1)

    assert fill_usage(at=middle + HOUR / 2) == 2
    rows = StripeUsage.objects.order_by("stamped_at").values_list("period", "value", "stamped_at", "meter")
    meter = StripeMeter.objects.get()
    assert list(rows) == [
        (period.pk, 10, middle - timedelta(seconds=1), meter.pk),
        (after.pk, 7, middle + HOUR / 2, meter.pk),
    ]


def test_nothing_without_a_key(settings: LazySettings) -> None:
    customer = metered_customer()
    customer.use(10)
    settings.STRIPE_SECRET_KEY = ""

    assert fill_usage(at=AT) == 0
    assert list(told_differences(None)) == []


def test_an_ended_period_is_filled_until_its_statement_and_dated_inside_it() -> None:
    customer = metered_customer()
    customer.use(10)
    period = customer.period()
    customer.period(1)  # rolled before the clock goes on
    late = period.ends_at + timedelta(minutes=30)
    fill_usage(at=late)

    only = StripeUsage.objects.get()
    assert only.stamped_at == period.ends_at - timedelta(seconds=1)
    assert only.hour == period.ends_at - HOUR

    customer.finalise()
    customer.use(5)
    assert fill_usage(at=late + HOUR) == 0


def test_a_moment_is_never_after_now_nor_outside_the_period() -> None:
    period = metered_customer().period()
    assert stamp(period, AT + timedelta(milliseconds=900)) == AT
    assert stamp(period, period.ends_at + HOUR) == period.ends_at - timedelta(seconds=1)
    period.ends_at += timedelta(milliseconds=300)
    assert stamp(period, period.ends_at + HOUR) == period.ends_at.replace(microsecond=0)


def test_with_the_statement_rows_end_at_its_quantities() -> None:
    customer = metered_customer()
    customer.use(10)
    period = customer.period()
    fill_usage(at=period.ends_at - HOUR)
    customer.use(32)
    statement = customer.finalise()
    where = f"{customer.organization.public_id} {statement.number}"
    assert [str(one) for one in told_differences(customer.organization)] == [
        f"told: {where} {StripeMeter.objects.get()} period {period.pk}: expected 42, found 10"
    ]
    customer.use(100)

    assert fill_to_statement(statement, at=period.ends_at + HOUR) == 1
    assert fill_to_statement(statement, at=period.ends_at + 2 * HOUR) == 0
    assert told(customer) == 42
    assert list(told_differences(None)) == []


def test_what_a_crash_after_the_statement_left_out_is_told_by_the_next_run() -> None:
    customer = metered_customer()
    customer.use(42)
    ends_at = customer.period().ends_at
    statement = customer.finalise()
    StripeUsage.objects.all().delete()  # as if nobody had come to it
    assert [one.kind for one in told_differences(None)] == ["told"]

    assert fill_stated(at=ends_at + 2 * HOUR) == 1
    assert fill_stated(at=ends_at + 3 * HOUR) == 0
    assert told(customer) == 42
    assert list(told_differences(statement.organization)) == []


def test_a_statement_of_less_takes_back_what_was_told() -> None:
    customer = metered_customer()
    event = customer.use(10)
    fill_usage(at=AT)
    correct(customer, event, -4)
    statement = customer.finalise()

    fill_to_statement(statement, at=statement.ends_at + HOUR)
    assert list(StripeUsage.objects.order_by("pk").values_list("value", flat=True)) == [10, -4]


def test_periods_about_to_end_or_just_ended_are_filled_between_hours() -> None:
    customer = metered_customer()
    customer.use(10)
    ends_at = customer.period().ends_at
    assert fill_ending(at=ends_at - timedelta(minutes=11)) == 0
    assert fill_ending(at=ends_at - timedelta(minutes=9)) == 1
    customer.use(1)
    assert fill_ending(at=ends_at + timedelta(minutes=2)) == 1


def test_after_the_subscription_ended_at_stripe_nothing_more_is_told() -> None:
    customer = metered_customer()
    StripeSubscription.objects.update(ended_at=customer.period().starts_at)
    customer.use(10)
    assert fill_usage(at=AT) == 0


def test_only_one_customer_when_asked() -> None:
    first, second = metered_customer("One"), metered_customer("Two", shard=3)
    first.use(1)
    second.use(2)
    assert fill_usage(at=AT, organizations=[second.organization]) == 1
    assert (told(first), told(second)) == (0, 2)


def test_queries_do_not_grow_with_customers() -> None:
    counts = []
    for size in (1, 6):
        for number in range(size):
            metered_customer(f"Customer {size}-{number}").use(number + 1)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert fill_usage(at=AT + size * HOUR) == size
        counts.append(len(queries))
    assert counts[0] == counts[1]


@pytest.mark.django_db(transaction=True)
def test_two_beats_at_once_tell_everything_once() -> None:
    customers = [metered_customer(f"Customer {number}") for number in range(8)]
    for customer in customers:
        customer.use(100)
    start, filled = Barrier(4), list[int]()

    def beat() -> None:
        try:
            start.wait(timeout=10)
            filled.append(fill_usage(at=AT))
        finally:
            connection.close()

    beats = [Thread(target=beat) for _ in range(4)]
    for one in beats:
        one.start()
    for one in beats:
        one.join(timeout=60)

    assert sorted(filled) == [0, 0, 0, 8]
    assert [told(customer) for customer in customers] == [100] * 8
