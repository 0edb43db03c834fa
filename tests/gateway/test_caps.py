"""Caps, limits at once and what alerts impose, at the gateway as it is deployed: each takes hold on the next call."""

import threading
import time
from decimal import Decimal

import pytest

from core.clock import now
from core.ids import event_id, new_nonce
from core.redis import usage_redis
from core.redis_layout import reservations_key
from metering.engine import Engine, TrackedEvent
from metering.events import Event
from plans.caps import set_cap
from plans.models import CapSide, Restriction
from plans.queries import current_period
from plans.versions import raise_version
from tests.gateway.kit import Customer, Shop, wait_for
from tests.gateway.test_refusals import assert_refused
from tests.plans.price_kit import component, put_on, version_of

CENT = Decimal("0.01")


@pytest.fixture
def customer(shop: Shop) -> Customer:
    """Paying a cent a call, without a cap."""
    customer = shop.customer()
    put_on(customer.organization, version_of(component(meter_of(shop), model="per_unit", unit_price=CENT)))
    shop.log()
    return customer


def meter_of(shop: Shop) -> object:
    return shop.routes["/*"].meter


def cap(customer: Customer, amount_minor: int | None) -> None:
    set_cap(
        organization=customer.organization, side=CapSide.CUSTOMER, amount_minor=amount_minor, spent_minor=0, by=None, at=now()
    )  # fmt: skip


def test_cap_refuses_what_would_pass_it_and_raising_it_opens_the_next_call(
    shop: Shop, customer: Customer
) -> None:
    cap(customer, 3)
    assert [customer.call().status for _ in range(3)] == [200, 200, 200]
    shop.log()

    answer = customer.call()
    assert_refused(answer, 429, "spend_cap_reached")
    assert answer.headers["x-should-retry"] == "false"
    assert int(answer.headers["retry-after"]) > 3600
    assert shop.log() == []

    cap(customer, 4)
    assert customer.call().status == 200
    assert_refused(customer.call(), 429, "spend_cap_reached")
    cap(customer, None)
    assert customer.call().status == 200


def test_calls_that_are_not_billed_leave_the_cap_as_it_was(customer: Customer) -> None:
    cap(customer, 1)
    assert [customer.call("/status/500").status for _ in range(3)] == [500, 500, 500]
    assert customer.call().status == 200
    assert_refused(customer.call(), 429, "spend_cap_reached")


def test_reported_usage_closes_the_door_at_the_cap(shop: Shop, customer: Customer) -> None:
    cap(customer, 100)
    assert customer.call().status == 200
    period, meter_id, at_us = (
        current_period(customer.organization, at=now()),
        shop.routes["/*"].meter_id,
        time.time_ns() // 1000,
    )
    event = Event(
        id=event_id(at_us, new_nonce()), occurred_at_us=at_us, organization_id=customer.organization.pk, mode="live",
        meter_id=meter_id, period_id=period.pk, quantity=Decimal(500), door="ingest",
    )  # fmt: skip
    reported = TrackedEvent(
        customer.organization.pk, "live", period.pk, meter_id, 500, "job-1", 9 * 10**15, event.to_json()
    )
    [verdict] = Engine(usage_redis()).track(customer.organization.shard, [reported])
    assert verdict == "accepted"
    assert_refused(customer.call(), 429, "spend_cap_reached")


def test_only_so_many_calls_at_once(shop: Shop, customer: Customer) -> None:
    put_on(customer.organization, version_of(component(meter_of(shop), unit_price=CENT), concurrency=1))
    slow = threading.Thread(target=customer.call, args=("/sleep/1",))
    slow.start()
    held = reservations_key(customer.organization.shard, customer.organization.pk)
    wait_for(lambda: usage_redis().zcard(held))

    answer = customer.call()
    slow.join()

    assert_refused(answer, 429, "concurrency_limited")
    assert answer.headers["retry-after"] == "1"
    assert customer.call().status == 200


def test_several_windows_hold_together(shop: Shop, customer: Customer) -> None:
    windows = ((1, 3), (60, 5), (86_400, 1000), (2_592_000, 5000))
    put_on(customer.organization, version_of(component(meter_of(shop), unit_price=CENT), windows=windows))
    answers = [customer.call() for _ in range(4)]
    assert [a.status for a in answers] == [200, 200, 200, 429]
    assert answers[0].headers["ratelimit-policy"] == (
        '"second";q=3;w=1, "minute";q=5;w=60, "day";q=1000;w=86400, "month";q=5000;w=2592000'
    )
    time.sleep(1.01)
    assert [customer.call().status for _ in range(3)] == [200, 200, 429]


def test_an_alert_throttles_and_blocks_until_it_is_lifted(customer: Customer) -> None:
    def impose(kind: str, calls: int | None) -> Restriction:
        made = Restriction.objects.create(
            organization=customer.organization, period=current_period(customer.organization, at=now()), kind=kind,
            calls_per_minute=calls, cause="120 % of the cap", at=now(),
        )  # fmt: skip
        raise_version(customer.organization)
        return made

    assert customer.call().status == 200
    impose("throttle", 2)
    assert customer.call().status == 200
    assert_refused(customer.call(), 429, "rate_limited")
    block = impose("block", None)
    answer = customer.call()
    assert_refused(answer, 429, "blocked_by_alert")
    assert answer.headers["x-should-retry"] == "false"
    Restriction.objects.for_organization(customer.organization).update(lifted_at=now())
    raise_version(customer.organization)
    assert block.pk
    assert customer.call().status == 200
