import json
from decimal import Decimal
from io import StringIO
from threading import Event as Flag
from threading import Thread
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from core.clock import from_micros, now
from core.redis import usage_redis
from core.redis_layout import shard_key, stream_key
from metering import tasks
from metering.cuts import DrainStuck
from metering.drain import drain_all
from metering.engine import Engine
from metering.ledger import lock_shard
from metering.models import CounterCorrection, DeadLetter, PeriodTotal, UsageEvent, UsageTotal
from metering.reconcile import Reconciliation, reconcile
from tests.factories import create_meter, create_user
from tests.metering.ledger_kit import Ledger, now_us, same_id


def kinds(outcome: Reconciliation) -> set[str]:
    return {difference.kind for difference in outcome.differences}


def test_what_the_doors_wrote_is_equal_and_the_drain_is_run_when_none_does(ledger: Ledger) -> None:
    for units in (1, 2, 3):
        ledger.call(units=units)
    ledger.call(units=0, reason="upstream_error")
    outcome = reconcile(at=now())
    (line,) = outcome.lines
    assert outcome.is_equal
    assert (outcome.events, line.events, line.totals, line.period_total, line.counter) == (4, 6, 6, 6, 6)


def test_open_reservations_are_shown_apart(ledger: Ledger) -> None:
    ledger.call(units=2)
    Engine().admit(ledger.admission(units=5))
    (line,) = reconcile(at=now()).lines
    assert (line.counter, line.reserved) == (2, 5)


def test_quantities_below_one_are_compared_in_the_meters_unit(ledger: Ledger) -> None:
    hours = create_meter("gb_hours", decimals=3, unit="GB-hour")
    event = ledger.event(now_us(), quantity=Decimal("1.250"))
    event = same_id(event, meter_id=hours.pk)
    ledger.append(event)
    usage_redis().hincrby(ledger.usage_key, str(hours.pk), 1250)
    outcome = reconcile(at=now())
    assert outcome.is_equal
    assert outcome.lines[-1].counter == Decimal("1.25")


def test_equal_every_time_while_calls_go_on(ledger: Ledger) -> None:
    other = Ledger.start(shard=18)
    stop = Flag()

    def work(of: Ledger) -> None:
        first = of.event(now_us(), source="crm", external_id="same", door="ingest")
        try:
            while not stop.is_set():
                of.call(units=2)
                of.append(same_id(first), counted=True)  # all but one of these are duplicates
        finally:
            connection.close()

    def drain() -> None:
        try:
            while not stop.is_set():
                drain_all(at=now())
        finally:
            connection.close()

    threads = [Thread(target=work, args=(of,)) for of in (ledger, ledger, other)] + [Thread(target=drain)]
    for thread in threads:
        thread.start()
    outcomes = [reconcile(at=now()) for _ in range(20)]
    stop.set()
    for thread in threads:
        thread.join()
    gaps = [d for outcome in outcomes for d in outcome.differences]
    assert gaps == []
    assert outcomes[0].events < outcomes[-1].events


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        ("counter", "counter"),
        ("hour", "hour"),
        ("hour_sum", "total"),
        ("period_sum", "period_total"),
        ("period_count", "period_total"),
        ("period_max", "period_total"),
        ("lost_event", "gap"),
        ("lost_entry", "gap"),
        ("stored_twice", "repeated"),
        ("state", "state"),
    ],
)
def test_each_kind_of_difference_is_found_and_named(ledger: Ledger, plant: str, kind: str) -> None:
    for units in (1, 2, 3):
        ledger.call(units=units)
    drain_all(at=now())
    globals()[f"plant_{plant}"](ledger)
    outcome = reconcile(at=now())
    assert kind in kinds(outcome)
    assert ledger.organization.public_id in str(outcome.differences) or kind in ("gap", "repeated")


def plant_counter(ledger: Ledger) -> None:
    usage_redis().hincrby(ledger.usage_key, str(ledger.meter.pk), 1)


def plant_hour(ledger: Ledger) -> None:
    UsageTotal.objects.update(route_id=99)


def plant_hour_sum(ledger: Ledger) -> None:
    UsageTotal.objects.update(sum=5)


def plant_period_sum(ledger: Ledger) -> None:
    PeriodTotal.objects.update(sum=7)


def plant_period_count(ledger: Ledger) -> None:
    PeriodTotal.objects.update(billed_count=2)


def plant_period_max(ledger: Ledger) -> None:
    PeriodTotal.objects.update(max=2)


def plant_lost_event(ledger: Ledger) -> None:
    UsageEvent.objects.filter(seq=2).delete()


def plant_lost_entry(ledger: Ledger) -> None:
    ledger.call()
    usage_redis().delete(stream_key(17))


def plant_stored_twice(ledger: Ledger) -> None:
    usage_redis().hincrby(shard_key(17), "seq", -1)
    ledger.call()


def plant_state(ledger: Ledger) -> None:
    usage_redis().flushdb()


def test_a_gap_names_its_numbers(ledger: Ledger) -> None:
    for _ in range(6):
        ledger.call()
    drain_all(at=now())
    UsageEvent.objects.filter(seq__in=(1, 3, 4)).delete()
    wheres = [d.where for d in reconcile(at=now()).differences if d.kind == "gap"]
    assert [where.split("numbers ")[1] for where in wheres] == ["1 to 1", "3 to 4"]


def test_numbers_at_the_end_that_never_came_are_a_gap(ledger: Ledger) -> None:
    ledger.call()
    usage_redis().hincrby(shard_key(17), "seq", 2)
    (gap,) = reconcile(at=now()).differences
    assert gap.where.endswith("numbers 2 to 3")


def test_dead_letters_fill_gaps_and_are_counted_apart(ledger: Ledger) -> None:
    ledger.call()
    ledger.append(b"{}")
    ledger.call()
    outcome = reconcile(at=now())
    assert outcome.is_equal
    assert outcome.dead_letters == DeadLetter.objects.count() == 1


def test_corrections_that_redis_was_not_told_yet_are_allowed_for(ledger: Ledger) -> None:
    first = ledger.event(now_us(), source="crm", external_id="A-1", door="ingest")
    ledger.append(first, counted=True)
    ledger.append(same_id(first), counted=True)
    drain_all(at=now())
    usage_redis().hdel(shard_key(17), "corrected")  # as if killed before the script ran
    usage_redis().hincrby(ledger.usage_key, str(ledger.meter.pk), 1)
    CounterCorrection.objects.update(applied_at=None)
    assert reconcile(at=now()).is_equal
    assert ledger.counter() == 2
    drain_all(at=now())
    assert reconcile(at=now()).is_equal
    assert ledger.counter() == 1


def test_one_organization_alone(ledger: Ledger) -> None:
    other = Ledger.start(shard=17)
    ledger.call()
    other.call()
    drain_all(at=now())
    plant_counter(other)
    assert reconcile(at=now(), organization=ledger.organization).is_equal
    assert not reconcile(at=now(), organization=other.organization).is_equal


def test_a_drain_that_cannot_pass_the_cut_is_an_error(ledger: Ledger) -> None:
    ledger.call()
    held, done = Flag(), Flag()

    def hold() -> None:
        try:
            with transaction.atomic():
                lock_shard(17)
                held.set()
                done.wait(10)
        finally:
            connection.close()

    thread = Thread(target=hold)
    thread.start()
    held.wait(5)
    with pytest.raises(DrainStuck, match="Shard 17"):
        reconcile(at=now(), timeout_seconds=0.2)
    done.set()
    thread.join()


def test_the_command_exits_0_when_equal_and_1_with_each_difference_named(ledger: Ledger) -> None:
    ledger.call(units=4)
    equal, different = StringIO(), StringIO()
    call_command("reconcile", stdout=equal, skip_checks=True)
    plant_counter(ledger)
    with pytest.raises(SystemExit) as exit_code:
        call_command("reconcile", stdout=different, skip_checks=True)
    assert "equal: 1 events, 1 lines" in equal.getvalue()
    assert exit_code.value.code == 1
    assert "DIFFERENCE counter: " in different.getvalue()
    assert "expected 4, found 5" in different.getvalue()


def test_the_command_speaks_json_and_knows_organizations(ledger: Ledger) -> None:
    ledger.call(units=4)
    out = StringIO()
    call_command(
        "reconcile", "--json", "--organization", ledger.organization.public_id, stdout=out, skip_checks=True
    )
    said: dict[str, Any] = json.loads(out.getvalue())
    assert said["equal"] is True
    assert said["lines"][0]["counter"] == "4"
    with pytest.raises(CommandError, match="no organization org_none"):
        call_command("reconcile", "--organization", "org_none", stdout=out, skip_checks=True)


def test_staff_are_mailed_of_differences_and_only_then(ledger: Ledger, mailoutbox: list[Any]) -> None:
    create_user("staff@farebox.example", is_staff=True)
    ledger.call()
    tasks.reconcile()
    assert mailoutbox == []
    plant_counter(ledger)
    tasks.reconcile()
    (mail,) = mailoutbox
    assert mail.to == ["staff@farebox.example"]
    assert "(1 difference)" in mail.subject
    assert "expected 1, found 2" in mail.body


def test_long_closed_periods_are_compared_without_redis(ledger: Ledger) -> None:
    event = ledger.event(1_735_700_000_000_000)
    ledger.append(same_id(event, period_id=10**9))
    outcome = reconcile(at=now())
    assert outcome.is_equal
    assert outcome.lines[-1].counter is None
    assert UsageEvent.objects.get().occurred_at == from_micros(1_735_700_000_000_000)
