from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Barrier, Thread
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Sum

from core.clock import from_micros, now
from core.redis import usage_redis
from core.redis_layout import stream_key
from keys.models import ApiKey
from metering import drain
from metering import ledger as store
from metering.drain import drain_all, drain_shard
from metering.ledger import lock_shard
from metering.models import CounterCorrection, DeadLetter, PeriodTotal, UsageEvent, UsageEventKey, UsageTotal
from metering.queries import period_quantities, period_quantity, quantities_by_period
from metering.reconcile import reconcile
from tests.factories import create_product, create_route
from tests.metering.ledger_kit import Ledger, now_us, same_id


class Killed(BaseException):
    """A process that ends between two lines; nothing catches it."""


def test_a_settled_call_becomes_one_row_with_all_its_facts(ledger: Ledger) -> None:
    event = ledger.call(units=3)
    drained = drain_all(at=now())
    row = UsageEvent.objects.get()
    assert (drained.stored, drained.repeated, drained.dead) == (1, 0, 0)
    assert (row.id, row.occurred_at) == (event.id, from_micros(event.occurred_at_us))
    assert (row.quantity, row.mode, row.period_id, row.meter_id) == (
        3,
        "live",
        ledger.period.pk,
        ledger.meter.pk,
    )
    assert (row.shard, row.seq, row.api_key_id, row.status) == (17, 1, ledger.key.pk, 200)
    assert ledger.stream_length() == 0


def test_totals_are_the_sum_of_their_rows(ledger: Ledger) -> None:
    for units in (2, 5, 3):
        ledger.call(units=units)
    ledger.call(units=0, reason="upstream_error")
    drain_all(at=now())
    ledger.call(units=4)
    drain_all(at=now())
    hours = UsageTotal.objects.aggregate(sum=Sum("sum"), count=Sum("count"), billed=Sum("billed_count"))
    period = PeriodTotal.objects.get()
    assert hours == {"sum": 14, "count": 5, "billed": 4}
    assert (period.sum, period.count, period.billed_count, period.max) == (14, 5, 4, 5)


def test_minimum_maximum_and_last_are_of_billed_events_in_order_of_time_and_id(ledger: Ledger) -> None:
    hour = datetime(2026, 5, 4, 10, tzinfo=UTC)
    at = int(hour.timestamp()) * 1_000_000 + 5
    late, early = ledger.event(at + 9, 7, quantity=Decimal(2)), ledger.event(at, 3, quantity=Decimal(8))
    tie = ledger.event(at + 9, 8, quantity=Decimal("4.5"))
    failed = ledger.event(at + 99, 1, quantity=Decimal(0), reason="upstream_error")
    for event in (tie, late, failed, early):
        ledger.append(event)
        drain_all(at=now())
    total = UsageTotal.objects.get()
    assert (total.hour, total.min, total.max, total.last) == (hour, 2, 8, Decimal("4.5"))
    assert (total.last_id, total.last_at) == (tie.id, from_micros(at + 9))


def test_dimensions_are_kept_apart_in_events_and_totals(ledger: Ledger) -> None:
    ledger.meter.dimensions = ["region", "model"]
    ledger.meter.save()
    for properties, units in (
        ({"model": "small", "region": "eu"}, 2),
        ({"region": "eu", "model": "small", "more": "x"}, 3),
        ({"model": "50%;a=b"}, 5),
        (None, 7),
    ):
        ledger.append(
            ledger.event(now_us(), quantity=Decimal(units), properties=properties, door="gateway"),
            counted=True,
        )
        drain_all(at=now())
    expected = {"region=eu;model=small": 5, "region=;model=50%25%3Ba%3Db": 5, "region=;model=": 7}
    assert dict(PeriodTotal.objects.values_list("dimension", "sum")) == expected
    assert dict(UsageTotal.objects.values_list("dimension").annotate(Sum("sum"))) == expected
    assert dict(UsageEvent.objects.values_list("dimension").annotate(Sum("quantity"))) == expected
    slug = ledger.meter.slug
    quantities = period_quantities(ledger.organization, period=ledger.period, mode="live")
    assert quantities == {(slug, dimension): quantity for dimension, quantity in expected.items()}
    assert quantities_by_period([ledger.period.pk]) == {ledger.period.pk: quantities}
    of_meter = period_quantity(ledger.organization, period=ledger.period, mode="live", meter=ledger.meter)
    assert of_meter == ledger.counter() == 17
    assert reconcile(at=now()).is_equal


def test_of_a_call_endpoint_and_product_are_known(ledger: Ledger) -> None:
    ledger.meter.dimensions = ["product", "endpoint"]
    ledger.meter.save()
    route = create_route(create_product("places"), "/v1/search;a=b")
    call = {"route_id": route.pk, "product_id": route.product_id}
    for more in (call, call | {"properties": {"endpoint": "/mine"}}, {"route_id": None, "product_id": None}):
        ledger.append(ledger.event(now_us(), **more))
    drain_all(at=now())
    assert set(PeriodTotal.objects.values_list("dimension", "sum")) == {
        ("product=places;endpoint=/places/v1/search%3Ba%3Db", 1),
        ("product=places;endpoint=/mine", 1),
        ("product=;endpoint=", 1),
    }


def test_a_period_total_knows_the_last_reading(ledger: Ledger) -> None:
    at = now_us()
    for after, units in ((5, 2), (9, 4), (7, 8)):
        ledger.append(ledger.event(at + after, quantity=Decimal(units)))
        drain_all(at=now())
    total = PeriodTotal.objects.get()
    assert (total.last, total.last_at, total.max) == (4, from_micros(at + 9), 8)


def test_an_entry_delivered_again_changes_nothing(ledger: Ledger) -> None:
    ledger.append(ledger.event(now_us()), counted=True)
    ((_, fields),) = usage_redis().xrange(stream_key(17))  # type: ignore[misc,union-attr]
    drain_all(at=now())
    usage_redis().xadd(stream_key(17), fields)
    drained = drain_all(at=now())
    assert (drained.stored, drained.repeated) == (0, 1)
    assert UsageEvent.objects.count() == PeriodTotal.objects.get().count == ledger.counter() == 1
    assert not CounterCorrection.objects.exists()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["lock_shard", "_read_head", "store_entries", "_delete", "correct_shard"])
def test_killed_between_any_two_steps_each_call_is_counted_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, step: str, when: str
) -> None:
    first = ledger.event(now_us(), source="crm", external_id="A-1", door="ingest")
    ledger.append(first, counted=True)
    ledger.append(same_id(first), counted=True)
    ledger.call(units=2)
    with monkeypatch.context() as patch:
        patch.setattr(drain, step, _killing(getattr(drain, step), when))
        with pytest.raises(Killed):
            drain_shard(17, at=now())
    drain_all(at=now())
    assert UsageEvent.objects.count() == 2
    assert PeriodTotal.objects.get().sum == ledger.counter() == 3
    assert ledger.stream_length() == 0


@pytest.mark.parametrize("step", ["_store", "_bury", "make_partitions"])
def test_killed_inside_the_transaction_nothing_stays(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    ledger.call()
    ledger.append(b"not an event")
    with monkeypatch.context() as patch:
        patch.setattr(store, step, _killing(getattr(store, step), "after"))
        with pytest.raises(Killed):
            drain_shard(17, at=now())
    assert not UsageEvent.objects.exists()
    assert not DeadLetter.objects.exists()
    drained = drain_all(at=now())
    assert (drained.stored, drained.dead, ledger.stream_length()) == (1, 1, 0)


def test_a_second_drainer_leaves_a_shard_alone(ledger: Ledger) -> None:
    ledger.call()
    answers: list[Any] = []
    with transaction.atomic():
        assert lock_shard(17)
        _in_thread(lambda: answers.append(drain_shard(17, at=now())))
    assert answers == [None]
    assert UsageEvent.objects.count() == 0


def test_two_drainers_store_each_entry_once(ledger: Ledger) -> None:
    for _ in range(60):
        ledger.call()
    barrier = Barrier(2)

    def work() -> None:
        barrier.wait()
        while ledger.stream_length():
            drain_shard(17, at=now(), batch=7)

    threads = [Thread(target=_with_own_connection(work)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert UsageEvent.objects.count() == PeriodTotal.objects.get().sum == 60
    assert not CounterCorrection.objects.exists()


def test_a_callers_id_counts_once_over_all_months(ledger: Ledger) -> None:
    march = int(datetime(2026, 3, 31, 23, 59, tzinfo=UTC).timestamp()) * 1_000_000
    first = ledger.event(march, source="crm", external_id="A-1", door="ingest", quantity=Decimal(4))
    again = same_id(first, occurred_at_us=march + 120_000_000)
    ledger.append(first, counted=True)
    drain_all(at=now())
    ledger.append(again, counted=True)
    drain_all(at=now())
    assert UsageEvent.objects.get().id == UsageEventKey.objects.get().event_id == first.id
    assert PeriodTotal.objects.get().sum == ledger.counter() == 4
    assert CounterCorrection.objects.get().quantity == -4


def test_a_callers_id_counts_once_within_a_batch_but_once_per_source_and_organization(ledger: Ledger) -> None:
    other = Ledger.start(shard=17)
    first = ledger.event(now_us(), source="crm", external_id="A-1", door="ingest")
    for event in (first, same_id(first), same_id(first, source="erp")):
        ledger.append(event, counted=True)
    other.append(other.event(now_us(), source="crm", external_id="A-1", door="ingest"), counted=True)
    drain_all(at=now())
    assert UsageEvent.objects.for_organization(ledger.organization).count() == ledger.counter() == 2
    assert UsageEvent.objects.for_organization(other.organization).count() == other.counter() == 1


def test_a_correction_is_applied_once_however_often_it_is_tried(ledger: Ledger) -> None:
    first = ledger.event(now_us(), source="crm", external_id="A-1", door="ingest")
    ledger.append(first, counted=True)
    ledger.append(same_id(first), counted=True)
    drain_all(at=now())
    CounterCorrection.objects.update(applied_at=None)  # as if killed before that was written
    drain_all(at=now())
    assert ledger.counter() == 1
    assert CounterCorrection.objects.get().applied_at is not None


def test_when_a_key_was_last_used_is_known_to_the_minute(ledger: Ledger) -> None:
    at = now_us() - 600_000_000
    for offset in (0, 30, 59):
        ledger.append(ledger.event(at + offset * 1_000_000))
        drain_all(at=now())
    assert ApiKey.objects.get(pk=ledger.key.pk).last_used_at == from_micros(at)
    ledger.append(ledger.event(at + 61_000_000))
    drain_all(at=now())
    assert ApiKey.objects.get(pk=ledger.key.pk).last_used_at == from_micros(at + 61_000_000)


def test_a_budget_ends_a_run_and_the_next_goes_on(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "BATCH", 2)
    for _ in range(5):
        ledger.call()
    assert drain_all(at=now(), budget_seconds=-1).stored == 0
    monkeypatch.setattr(drain.drain_shard, "__kwdefaults__", {"batch": 2})
    assert drain_all(at=now()).stored == 5


def test_time_is_kept_to_the_microsecond(ledger: Ledger) -> None:
    moments = [1_735_689_599_999_999, 1_735_689_600_000_001, 1_790_000_000_123_457]
    for at in moments:
        ledger.append(ledger.event(at))
    drain_all(at=now())
    assert list(UsageEvent.objects.order_by("occurred_at").values_list("occurred_at", flat=True)) == [
        from_micros(at) for at in moments
    ]


def test_a_drain_that_is_a_day_late_alarms(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    ledger.call()
    drain_all(at=now() + timedelta(days=1, seconds=1))
    assert "drain_is_late" in caplog.text


def _killing(step: Callable[..., Any], when: str) -> Callable[..., Any]:
    def killed(*args: Any, **options: Any) -> Any:
        if when == "after":
            step(*args, **options)
        raise Killed

    return killed


def _with_own_connection(work: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    return run


def _in_thread(work: Callable[[], object]) -> None:
    thread = Thread(target=_with_own_connection(work))
    thread.start()
    thread.join()


def test_a_shard_that_never_empties_does_not_starve_the_others(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shard in (0, 5, 63):
        usage_redis().xadd(stream_key(shard), {"e": "x"})
    seen: list[int] = []

    def always_full(shard: int, *, at: datetime) -> drain.Stored:
        seen.append(shard)
        return drain.Stored(stored=drain.BATCH)

    monkeypatch.setattr(drain, "drain_shard", always_full)
    turns = []
    for _ in range(4):
        seen.clear()
        drain_all(at=now(), budget_seconds=0.01)
        turns.append(set(seen))
    assert turns == [{0}, {5}, {63}, {0}]
