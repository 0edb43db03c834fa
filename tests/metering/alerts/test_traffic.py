"""Thresholds crossed by parallel traffic while several rounds look: each alert once, for the period of the usage."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from redis import Redis

from core.clock import now
from keys.records import load_record
from metering.alerts.rounds import evaluate_changed
from metering.drain import drain_all
from metering.models import AlertFiring, PeriodTotal
from plans.models import Period, PriceComponent, Restriction
from tests.metering.ledger_kit import Ledger
from tests.plans.price_kit import component, put_on, version_of

pytestmark = pytest.mark.django_db(transaction=True)
CALLS, CALLERS, WATCHERS, UNITS = 15, 4, 3, 22


def paying() -> Ledger:
    """A customer with 1,000 included calls, and more for money."""
    ledger = Ledger.start()
    priced = component(ledger.meter, included=Decimal(1000), unit_price=Decimal("0.01"))
    put_on(ledger.organization, version_of(priced))
    record = load_record(bytes(ledger.key.hash), at=now())
    assert record is not None
    return replace(ledger, record=record)


def at_once(*works: Callable[[], None]) -> None:
    """Run all of them at the same time; raises what one of them raised."""
    gate, faults = threading.Barrier(len(works)), list[BaseException]()

    def run(work: Callable[[], None]) -> None:
        try:
            gate.wait()
            work()
        except BaseException as fault:
            faults.append(fault)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def drain_and_look() -> None:
    for _ in range(8):
        drain_all(at=now())
        evaluate_changed(at=now())


def test_each_alert_once_under_traffic(usage_redis: Redis) -> None:
    ledger = paying()

    def call() -> None:
        for _ in range(CALLS):
            ledger.call(units=UNITS)

    at_once(*[call] * CALLERS, *[drain_and_look] * WATCHERS)
    drain_all(at=now())
    evaluate_changed(at=now())
    total = PeriodTotal.objects.get(organization_id=ledger.organization.pk, mode="live").sum
    assert total == CALLS * CALLERS * UNITS
    rows = AlertFiring.objects.for_organization(ledger.organization).select_related("alert")
    fired = [
        (int(row.alert.threshold), row.crossing, row.period_id) for row in rows.order_by("alert__threshold")
    ]
    assert fired == [(threshold, 1, ledger.period.pk) for threshold in (80, 100, 120)]
    assert all(row.threshold_value <= row.value <= total for row in rows)
    assert Restriction.objects.count() == 1


def test_usage_of_an_ended_period_is_looked_at_beside_that_of_the_next(usage_redis: Redis) -> None:
    ledger = Ledger.start()
    included = int(PriceComponent.objects.get(version=ledger.period.version).included)
    ledger.call(units=included)
    drain_all(at=now())
    after = ledger.period.ends_at + timedelta(minutes=1)
    at_once(*[lambda: _look(after)] * WATCHERS)
    following = Period.objects.for_organization(ledger.organization).filter(starts_at=ledger.period.ends_at)
    fired = list(
        AlertFiring.objects.values_list("period_id", "alert__threshold").order_by("alert__threshold")
    )
    assert fired == [(ledger.period.pk, 80), (ledger.period.pk, 100)]
    assert following.exists()


def _look(at: datetime) -> None:
    evaluate_changed(at=at)
