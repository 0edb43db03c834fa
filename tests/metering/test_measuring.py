"""Reported usage on its meter: units, filters, dimensions, and what each aggregation asks of an event."""

from contextlib import nullcontext
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from core.clock import now, to_micros
from core.ids import event_id
from core.redis import usage_redis
from core.redis_layout import usage_key
from metering.drain import drain_all
from metering.events import Event
from metering.measuring import LARGEST_UNITS, Measure, Unmeasurable, measure, passes
from metering.models import UsageEvent
from metering.period_usage import period_quantities
from metering.queries import Unbilled, unbilled_calls
from metering.rebuild import rebuild_counters
from metering.reconcile import reconcile
from metering.services import ingest_history
from metering.usage_corrections import correct_usage
from plans.dimensions import canonical
from plans.models import Aggregation, Meter, TimeUnit
from plans.queries import current_period
from tests.factories import create_product, create_route
from tests.metering.ledger_kit import Ledger, now_us
from tests.metering.test_ingest import Reporter, reporter

__all__ = ["reporter"]

GIGABYTES: dict[str, Any] = {"slug": "bandwidth", "unit": "GB", "decimals": 9, "base_unit": "byte", "base_per_unit": Decimal(10**9)}  # fmt: skip


def of(quantity: str | None = "1", reported_in: str = "", properties: Any = None, /, **meter: Any) -> Measure:
    value = None if quantity is None else Decimal(quantity)
    return measure(Meter(**{"unit": "call"} | meter), quantity=value, unit=reported_in, properties=properties)


def refusal(*args: Any, **meter: Any) -> tuple[str, str]:
    with pytest.raises(Unmeasurable) as caught:
        of(*args, **meter)
    return caught.value.code, caught.value.field


@pytest.mark.parametrize(
    ("quantity", "unit", "expected"),
    [("1", "", "1"), ("1.5", "GB", "1.5"), ("1", "byte", "0.000000001"), ("2500000000", "byte", "2.5"),
     ("0", "byte", "0"), (str(LARGEST_UNITS), "byte", "9007199.254740991")],
)  # fmt: skip
def test_a_gigabyte_is_a_thousand_million_bytes(quantity: str, unit: str, expected: str) -> None:
    assert of(quantity, unit, **GIGABYTES).quantity == Decimal(expected)


def test_what_is_no_whole_number_of_smallest_units_is_refused() -> None:
    assert refusal("0.5", "byte", **GIGABYTES) == ("too_many_decimals", "quantity")
    assert refusal("1", "byte", **GIGABYTES | {"decimals": 6}) == ("too_many_decimals", "quantity")
    thirds: dict[str, Any] = {"unit": "day", "decimals": 2, "base_unit": "hour", "base_per_unit": Decimal(24)}
    assert of("6", "hour", **thirds).quantity == Decimal("0.25")
    assert refusal("8", "hour", **thirds) == ("too_many_decimals", "quantity")
    assert refusal(str(LARGEST_UNITS + 1), "byte", **GIGABYTES) == ("out_of_range", "quantity")
    assert refusal("1", "MB", **GIGABYTES) == ("unknown_unit", "unit")
    assert refusal(None) == ("required", "quantity")


def test_a_reading_of_gigabyte_months_is_in_gigabytes() -> None:
    storage = GIGABYTES | {
        "unit": "GB-month",
        "aggregation": Aggregation.TIME_WEIGHTED,
        "time_unit": TimeUnit.MONTH,
    }
    for unit, quantity in (("", "2"), ("GB", "2"), ("GB-month", "2"), ("byte", "2000000000")):
        assert of(quantity, unit, **storage).quantity == 2
    assert refusal("2", "GB-hour", **storage) == ("unknown_unit", "unit")


@given(st.integers(0, LARGEST_UNITS))
def test_bytes_come_back_as_they_were_reported(number: int) -> None:
    measured = of(str(number), "byte", **GIGABYTES)
    assert measured.units == measured.quantity * 10**9 == number


@pytest.mark.parametrize("kind", [Aggregation.COUNT, Aggregation.UNIQUE])
def test_an_event_of_a_count_is_one(kind: str) -> None:
    meter: dict[str, Any] = {"aggregation": kind, "value_property": "user", "decimals": 2}
    for quantity in (None, "1", "1.0"):
        assert of(quantity, "", {"user": "ann"}, **meter) == Measure(100, Decimal(1))
    assert refusal("2", "", {"user": "ann"}, **meter) == ("counts_one", "quantity")


@pytest.mark.parametrize("properties", [None, {}, {"user": None}, {"user": ""}, {"visitor": "ann"}])
def test_a_unique_count_needs_its_property(properties: Any) -> None:
    meter: dict[str, Any] = {"aggregation": Aggregation.UNIQUE, "value_property": "user"}
    assert refusal(None, "", properties, **meter) == ("missing_property", "properties")


def test_only_filtered_values_count_and_the_others_are_recorded_as_nothing() -> None:
    filters = {"direction": ["egress", "peering"], "tier": 1}
    for passing in ({"direction": "egress", "tier": 1}, {"direction": "peering", "tier": "1", "more": 0}):
        assert of("3", "", passing, filters=filters) == Measure(3, Decimal(3))
    for other in (
        None,
        {},
        {"direction": "ingress", "tier": 1},
        {"direction": "egress"},
        {"direction": ["egress"], "tier": 1},
    ):
        assert of("3", "", other, filters=filters) == Measure(0, Decimal(0), "filtered")
    assert passes({"free": [True]}, {"free": True})
    assert passes({"region": [None]}, {})


def test_a_dimension_that_totals_cannot_hold_is_refused() -> None:
    assert of("1", "", {"region": "x" * 193}, dimensions=["region"]).units == 1
    assert refusal("1", "", {"region": "x" * 194}, dimensions=["region"]) == ("too_large", "properties")
    assert refusal("1", "", {"region": "%" * 65}, dimensions=["region"]) == ("too_large", "properties")


@pytest.mark.parametrize(
    "properties",
    [None, {}, {"a": "x"}, {"a": "1;b=2%", "b=": "é\n\t\\"}, {"a": 1, "b=": 1.5}, {"a": True, "b=": None}, {"a": [1, "x"]}],
)  # fmt: skip
def test_the_drain_writes_dimensions_as_python_does(ledger: Ledger, properties: Any) -> None:
    ledger.meter.dimensions = ["b=", "a"]
    ledger.meter.save()
    ledger.append(ledger.event(now_us(), properties=properties))
    drain_all(at=now())
    assert UsageEvent.objects.get().dimension == canonical(["b=", "a"], properties or {})


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("kind", "units", "match"),
    [(Aggregation.COUNT, 1, ""), (Aggregation.SUM, 3, ""), (Aggregation.MAX, 1, "reported"), (Aggregation.COUNT, 2, "one each"), (Aggregation.LAST, 1, "reported"),
     (Aggregation.UNIQUE, 1, "reported"), (Aggregation.TIME_WEIGHTED, 1, "reported")],
)  # fmt: skip
def test_a_call_is_no_reading(kind: str, units: int, match: str) -> None:
    meter = Meter.objects.create(slug="m", name="M", unit="unit", aggregation=kind)
    route = create_route(create_product(), units=Decimal(units), meter=meter)
    with pytest.raises(ValidationError, match=match) if match else nullcontext():
        route.full_clean()


# --- through the door --------------------------------------------------------------------------------------------


def quantities(reporter: Reporter) -> dict[tuple[str, str], Decimal]:
    drain_all(at=now())
    period = current_period(reporter.organization, at=now())
    return period_quantities(reporter.organization, period=period, mode="live", at=period.ends_at)


def test_egress_in_bytes_is_billed_in_gigabytes_and_ingress_is_free(reporter: Reporter) -> None:
    Meter.objects.create(
        name="Bandwidth", filters={"direction": ["egress"]}, dimensions=["region"], **GIGABYTES
    )
    sent = [
        ("300000000", "byte", "egress"),
        ("1.2", "GB", "egress"),
        ("0.5", "", "ingress"),
        ("1", "MB", "egress"),
    ]
    events = [
        reporter.event(
            meter="bandwidth", quantity=quantity, idempotency_key=f"b-{number}",
            properties={"direction": direction, "region": "eu"}, **({"unit": unit} if unit else {}),
        )
        for number, (quantity, unit, direction) in enumerate(sent)
    ]  # fmt: skip
    verdicts = reporter.send(*events)
    assert [one["status"] for one in verdicts] == ["accepted", "accepted", "accepted", "rejected"]
    assert (verdicts[3]["code"], verdicts[3]["field"]) == ("unknown_unit", "unit")
    assert quantities(reporter) == {("bandwidth", "region=eu"): Decimal("1.5")}
    period = current_period(reporter.organization, at=now())
    found = unbilled_calls(reporter.organization, period=period, mode="live")
    assert found == [Unbilled("filtered", 1)]
    assert reconcile(at=now()).is_equal


def test_the_counter_of_a_maximum_is_the_largest_report_and_never_too_small(reporter: Reporter) -> None:
    seats = Meter.objects.create(slug="seats", name="Seats", unit="seat", aggregation=Aggregation.MAX)
    lasts = Meter.objects.create(slug="disks", name="Disks", unit="disk", aggregation=Aggregation.LAST)
    period = current_period(reporter.organization, at=now())
    key = usage_key(reporter.organization.shard, reporter.organization.pk, "live", period.pk)

    def counter(meter: Meter = seats) -> int:
        drain_all(at=now())
        assert reconcile(at=now()).is_equal
        return int(usage_redis().hget(key, str(meter.pk)) or 0)  # type: ignore[arg-type]

    reported = [
        reporter.event(meter=slug, quantity=str(n), idempotency_key=f"{slug}-{n}")
        for slug in ("seats", "disks")
        for n in (3, 5, 4)
    ]
    verdicts = reporter.send(*reported)
    assert (counter(), counter(lasts)) == (5, 0)
    correct_usage(UUID(verdicts[1]["event_id"]), quantity=None, reason="test", by=None, at=now())
    assert counter() == 5
    rebuild_counters(at=now(), organization=reporter.organization, reset=True)
    assert (counter(), counter(lasts)) == (4, 0)
    past = UsageEvent.objects.get(id=verdicts[2]["event_id"])
    at_us = to_micros(past.occurred_at)
    history = [
        Event(
            id=event_id(at_us, n), occurred_at_us=at_us, organization_id=past.organization_id, mode="live",
            meter_id=seats.pk, period_id=period.pk, quantity=Decimal(n), door="ingest",
        )
        for n in (2, 9, 7)
    ]  # fmt: skip
    ingest_history(history, at=now())
    assert counter() == 9
    correct_usage(history[0].id, quantity=Decimal(12), reason="test", by=None, at=now())
    assert counter() == 12
    assert quantities(reporter)["seats", ""] == 12
    usage_redis().hincrby(key, str(seats.pk), -1)
    assert {one.kind for one in reconcile(at=now()).differences} == {"counter"}


def test_users_are_counted_and_readings_are_weighed(reporter: Reporter) -> None:
    Meter.objects.create(
        slug="users", name="Users", unit="user", aggregation=Aggregation.UNIQUE, value_property="user"
    )
    Meter.objects.create(
        slug="storage", name="Storage", unit="GB-hour", decimals=3, aggregation=Aggregation.TIME_WEIGHTED,
        time_unit=TimeUnit.HOUR,
    )  # fmt: skip
    start = now() - timedelta(hours=20)
    events = []
    for number, user in enumerate(["ann", "bob", "ann", ""]):
        event = reporter.event(meter="users", idempotency_key=f"u-{number}", properties={"user": user})
        del event["quantity"]
        events.append(event)
    for number, (size, hours) in enumerate((("2.5", 0), ("1", 2), ("0", 3))):
        moment = (start + timedelta(hours=hours)).isoformat()
        events.append(
            reporter.event(meter="storage", quantity=size, idempotency_key=f"s-{number}", time=moment)
        )
    statuses = [one["status"] for one in reporter.send(*events)]
    assert statuses == ["accepted"] * 3 + ["rejected"] + ["accepted"] * 3
    assert quantities(reporter) == {("users", ""): 2, ("storage", ""): 6}
    assert reconcile(at=now()).is_equal
