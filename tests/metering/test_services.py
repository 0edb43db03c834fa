from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from config.celery import app, beat_table
from core.clock import now, to_micros
from core.redis import usage_redis
from core.redis_layout import organization_key
from metering import tasks
from metering.calls import Admitted
from metering.engine import Engine
from metering.events import Event
from metering.models import PeriodTotal, UsageEvent
from metering.rebuild import rebuild_counters
from metering.reconcile import reconcile
from metering.services import HistoryRefused, ingest_history, sweep_reservations
from plans.models import StatePush
from tests.metering.ledger_kit import Ledger, now_us


def history(ledger: Ledger, days: int = 3) -> list[Event]:
    start = to_micros(now() - timedelta(hours=20))
    return [
        ledger.event(start + number * 3_600_000_000, quantity=Decimal(100), door="ingest", reason="")
        for number in range(days)
    ]


def test_history_goes_into_rows_totals_and_counters_once(ledger: Ledger) -> None:
    other = Ledger.start(shard=18)
    ledger.call(units=5)
    events = history(ledger) + history(other)
    assert ingest_history(events, at=now()).stored == 6
    assert ingest_history(events, at=now()).stored == 0
    assert PeriodTotal.objects.for_organization(ledger.organization).get().sum == 300
    assert (ledger.counter(), other.counter()) == (305, 300)
    assert reconcile(at=now()).is_equal
    assert UsageEvent.objects.count() == 7


def test_history_of_an_organization_that_redis_does_not_know_waits_for_the_rebuild(ledger: Ledger) -> None:
    usage_redis().delete(organization_key(17, ledger.organization.pk))
    ingest_history(history(ledger), at=now())
    assert ledger.counter() == 0
    rebuild_counters(at=now())
    assert ledger.counter() == 300
    assert reconcile(at=now()).is_equal


def test_history_that_the_ledger_would_not_take_is_refused_as_a_whole(ledger: Ledger) -> None:
    broken = [*history(ledger), ledger.event(1_000_000)]
    with pytest.raises(HistoryRefused, match="at: outside"):
        ingest_history(broken, at=now())
    nul = [*history(ledger), ledger.event(now_us(), properties={"a": "\0"})]
    with pytest.raises(HistoryRefused, match="nothing of its part"):
        ingest_history(nul, at=now())
    assert not UsageEvent.objects.exists()


def test_expired_reservations_are_given_back(ledger: Ledger) -> None:
    admitted = Engine().admit(replace(ledger.admission(units=4), life_seconds=0))
    assert isinstance(admitted, Admitted)
    assert sweep_reservations() == 1
    (line,) = reconcile(at=now()).lines or (None,)
    assert line is None or line.reserved == 0


def test_every_task_of_the_beat_table_exists_and_runs_twice(ledger: Ledger) -> None:
    app.autodiscover_tasks(force=True)
    assert {row["task"] for row in beat_table().values()} <= set(app.tasks)
    ledger.call()
    StatePush.objects.create(organization=ledger.organization, version=1)
    for task in (
        tasks.drain,
        tasks.push_states,
        tasks.sweep,
        tasks.drain_refusals,
        tasks.make_partitions,
    ) * 2:
        task()
    assert UsageEvent.objects.count() == 1
    assert not StatePush.objects.exists()


def test_without_redis_a_tick_does_nothing_and_does_not_fail(
    ledger: Ledger, settings: object, caplog: pytest.LogCaptureFixture
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"  # type: ignore[attr-defined]
    for task in (tasks.drain, tasks.sweep, tasks.drain_refusals):
        task()
    assert caplog.text.count("ledger_server_away") == 3
