from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing import tasks
from billing.models import SimulationRun, SimulationState
from billing.simulator import (
    Outcome,
    is_interrupted,
    read_simulation,
    request_again,
    request_simulation,
    run_simulation,
    simulate,
)
from billing.tasks import queue_simulation
from plans.models import (
    CostPrices,
    Period,
    Plan,
    PlanVersion,
    RouteCost,
    SubscriptionEvent,
    SubscriptionEventKind,
)
from plans.queries import newest_version
from tests.billing.test_adviser import LATER, START, customer
from tests.eager import tasks_at_once
from tests.factories import create_organization, create_plan, create_product, create_route

pytestmark = pytest.mark.django_db(transaction=True)


def outcomes_on(version: PlanVersion, *, plan: Plan | None = None, months: int = 3) -> list[Outcome]:
    return [one for _, batch in simulate(version, plan=plan, months=months, at=LATER) for one in batch]


def ask(version: PlanVersion) -> SimulationRun:
    return request_simulation(version=version, plan=None, months=3, percent=20, by=None, at=LATER)


def test_each_customer_pays_what_the_other_version_asks_for_the_true_usage() -> None:
    heavy, light = customer("starter", 400_000), customer("starter", 10_000)
    create_organization(plan="starter")  # in its trial: nothing to replay
    draft = create_plan("dearer", fee_minor=6000, included=Decimal(100_000), unit_price=Decimal("0.0005"))
    outcomes = outcomes_on(draft, months=2)
    assert [(o.organization_id, o.months, o.now_minor, o.then_minor) for o in outcomes] == [
        (heavy.pk, 2, 2 * (4900 + 35_000), 2 * (6000 + 15_000)),
        (light.pk, 2, 2 * 4900, 2 * 6000),
    ]


def test_only_customers_of_the_plan_are_asked_about() -> None:
    customer("starter", 10)
    professional = customer("professional", 10)
    found = outcomes_on(newest_version("starter"), plan=Plan.objects.get(slug="professional"))
    assert [outcome.organization_id for outcome in found] == [professional.pk]


def test_yearly_fees_are_compared_by_the_month() -> None:
    customer("starter", 10)
    yearly = create_plan("yearly", fee_minor=12 * 4000, included=Decimal(1000), interval="year")
    ((seen, [outcome]),) = simulate(yearly, plan=None, months=3, at=LATER)
    assert (seen, outcome.now_minor, outcome.then_minor) == (3, 3 * 4900, 3 * 4000)


def test_a_yearly_fee_of_today_counts_with_a_twelfth_in_each_month() -> None:
    """A statement has the whole fee in the first month and none in the others."""
    create_plan("yearly", fee_minor=12 * 4000, included=Decimal(1000), interval="year", trial_days=14)
    customer("yearly", 10)
    (outcome,) = outcomes_on(newest_version("starter"))
    assert (outcome.now_minor, outcome.then_minor) == (3 * 4000, 3 * 4900)
    (one_month,) = outcomes_on(newest_version("starter"), months=1)  # the newest: its statement has no fee
    assert (one_month.months, one_month.now_minor, one_month.then_minor) == (1, 4000, 4900)


def test_a_run_is_stored_and_read_with_winners_and_losers() -> None:
    heavy, light = customer("starter", 400_000), customer("starter", 10_000)
    draft = create_plan("dearer", fee_minor=6000, included=Decimal(100_000), unit_price=Decimal("0.0005"))
    run = request_simulation(version=draft, plan=None, months=3, percent=20, by=None, at=LATER)
    run_simulation(run=run, at=LATER)
    run.refresh_from_db()
    found = read_simulation(run)
    assert (run.state, run.periods_done, run.periods_in_all) == (SimulationState.DONE, 6, 6)
    assert [o.organization_id for o in found.winners] == [heavy.pk]
    assert (
        [o.organization_id for o in found.losers]
        == [o.organization_id for o in found.hit_hard(20)]
        == [light.pk]
    )
    assert found.then_minor - found.now_minor == sum(o.difference_minor for o in found.outcomes)
    assert found.hit_hard(23) == []


def test_a_run_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    customer("starter", 10)
    run = request_simulation(
        version=newest_version("free"), plan=None, months=3, percent=20, by=None, at=LATER
    )
    monkeypatch.setattr("billing.simulator.rate_period", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_simulation(run=run, at=LATER + timedelta(days=1))
    run.refresh_from_db()
    assert run.state == SimulationState.FAILED


def test_more_than_a_share_of_nothing_is_anything() -> None:
    assert Outcome(1, "org_1", "A", 1, 0, 1).pays_more_than(20)
    assert not Outcome(1, "org_1", "A", 1, 0, 0).pays_more_than(20)


def test_half_a_month_before_an_upgrade_bears_half_of_both_fees() -> None:
    """June, and the first 15 of the 31 days of July: one month and a half, not two."""
    organization = customer("starter", 10)
    first, second, third = Period.objects.for_organization(organization).order_by("starts_at")
    third.delete()
    Period.objects.filter(pk=second.pk).update(ends_at=second.starts_at + timedelta(days=15))
    (outcome,) = outcomes_on(create_plan("dearer", fee_minor=6200))
    assert (outcome.months, outcome.then_minor) == (2, 6200 + 3000)
    assert outcome.now_minor == 4900 + 2371  # 4900 * 15 / 31 = 2370.97


def test_months_behind_a_closed_door_cost_nothing_on_either_version() -> None:
    """The trial ended without payment before the first month, and nobody paid until the second was over."""
    organization = customer("starter", 10)
    periods = Period.objects.for_organization(organization).order_by("starts_at")
    for kind, at in (("trial_ended", START), ("trial_converted", periods[2].starts_at)):
        SubscriptionEvent.objects.create(
            organization=organization, subscription=periods[0].subscription, version=periods[0].version,
            kind=SubscriptionEventKind(kind), at=at, currency="USD", mrr_minor=0, previous_mrr_minor=0,
        )  # fmt: skip
    (outcome,) = outcomes_on(create_plan("dearer", fee_minor=6000))
    assert (outcome.months, outcome.now_minor, outcome.then_minor) == (1, 4900, 6000)


def test_who_cannot_be_compared_is_counted() -> None:
    customer("starter", 10)
    create_organization(plan="starter")  # in its trial
    create_plan("euro", currency="EUR", fee_minor=100, trial_days=14)
    customer("euro", 10)
    create_organization(plan="euro")
    run = ask(newest_version("professional"))
    assert run_simulation(run=run, at=LATER)
    left_out = read_simulation(run).left_out
    assert (dict(left_out.by_currency), left_out.without_months) == ({"EUR": 2}, 1)
    assert len(read_simulation(run).outcomes) == 1


def test_the_cost_of_the_calls_makes_the_margin() -> None:
    """1 ms at 0.00001 and half of that: 0.0000075 a call on average; 400,000 calls in each of three months."""
    product = create_product()
    for path, milliseconds in (("/a", "1"), ("/b", "0.5")):
        RouteCost.objects.create(
            route=create_route(product, path=path), compute_ms=Decimal(milliseconds), kb_out=Decimal(0)
        )
    customer("starter", 400_000)
    version = newest_version("professional")
    assert [one.cost_minor for one in outcomes_on(version)] == [None]
    CostPrices.objects.create(
        valid_from=START, currency="USD", per_compute_ms=Decimal("0.00001"), per_memory_gb_second=0,
        per_kb_out=0, per_third_party_call=0,
    )  # fmt: skip
    run = ask(version)
    run_simulation(run=run, at=LATER)
    found = read_simulation(run)
    assert found.cost_minor == 3 * 300
    assert (found.now_minor - 900, found.then_minor - 900) == (3 * 39_900 - 900, 3 * 19_900 - 900)


def test_usage_that_would_have_been_refused_is_told_and_not_taken_for_a_gain() -> None:
    customer("starter", 1_001)
    (outcome,) = outcomes_on(newest_version("free"))
    assert (outcome.then_minor, outcome.months_refused) == (0, 3)
    (outcome,) = outcomes_on(newest_version("professional"))
    assert outcome.months_refused == 0


def test_more_customers_cost_no_more_queries(
    django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        customer("starter", 10)
    version = newest_version("professional")
    with CaptureQueriesContext(connection) as few:
        assert len(outcomes_on(version)) == 3
    for _ in range(5):
        customer("starter", 10)
    version = newest_version("professional")  # nothing of it is known yet
    with django_assert_num_queries(len(few)):
        assert len(outcomes_on(version)) == 8
    monkeypatch.setattr("billing.simulator.BATCH", 3)
    parts = list(simulate(newest_version("professional"), plan=None, months=3, at=LATER))
    assert [(seen, len(batch)) for seen, batch in parts] == [(9, 3), (18, 3), (24, 2)]


def test_a_run_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("billing.simulator.BATCH", 1)
    customer("starter", 10), customer("starter", 10)
    run = ask(newest_version("professional"))
    told: list[tuple[str, int, int]] = []

    def clock() -> datetime:
        told.append(SimulationRun.objects.values_list("state", "periods_done", "periods_in_all").get())
        return LATER + timedelta(seconds=len(told))

    assert run_simulation(run=run, at=LATER, clock=clock)
    assert told == [("running", 0, 6), ("running", 3, 6), ("running", 6, 6)]
    assert (run.progress_at, run.finished_at) == (LATER + timedelta(seconds=2), LATER + timedelta(seconds=3))


def test_one_worker_at_a_time_and_a_dead_one_is_taken_over() -> None:
    customer("starter", 10)
    run = ask(newest_version("professional"))
    SimulationRun.objects.update(state=SimulationState.RUNNING, progress_at=LATER)
    soon, late = LATER + timedelta(minutes=9, seconds=59), LATER + timedelta(minutes=10)
    run.refresh_from_db()
    assert not is_interrupted(run, at=soon)
    assert not run_simulation(run=run, at=soon)
    assert is_interrupted(run, at=late)
    assert run_simulation(run=run, at=late)
    assert not run_simulation(
        run=run, at=late + timedelta(hours=1)
    )  # done: a second delivery changes nothing
    assert not is_interrupted(run, at=late + timedelta(hours=1))


def test_asking_again_puts_a_dead_run_back_and_asks_anew_beside_a_finished_one() -> None:
    run = ask(create_plan("dearer"))
    soon, late = LATER + timedelta(minutes=1), LATER + timedelta(minutes=10)
    assert request_again(run=run, by=None, at=soon).progress_at is None  # still waits for a worker
    again = request_again(run=run, by=None, at=late)
    assert (again.pk, again.state) == (run.pk, SimulationState.QUEUED)
    assert not is_interrupted(again, at=late + timedelta(minutes=9))
    assert run_simulation(run=again, at=late)
    other = request_again(run=again, by=None, at=late)
    assert other.pk != run.pk
    assert (other.version, other.months, other.percent, other.state) == (run.version, 3, 20, "queued")


def test_runs_of_before_costs_were_kept_still_read() -> None:
    run = ask(create_plan("dearer"))
    run.outcomes = [[1, "org_1", "Acme", 3, 100, 200]]
    found = read_simulation(run)
    assert (found.outcomes[0].cost_minor, found.cost_minor, found.left_out.without_months) == (None, None, 0)
    assert found.outcomes[0].difference_minor == 100


def test_a_task_runs_it_and_a_broker_that_is_away_leaves_a_run_that_says_so(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    customer("starter", 10)
    run = ask(newest_version("professional"))
    with tasks_at_once():
        queue_simulation(run)  # outside a transaction: at once
    run.refresh_from_db()
    assert run.state == SimulationState.DONE
    lost = ask(newest_version("professional"))
    with patch.object(tasks.simulate, "apply_async", side_effect=ConnectionRefusedError):
        queue_simulation(lost)
    lost.refresh_from_db()
    assert lost.state == SimulationState.FAILED
    tasks.simulate(0)  # was deleted meanwhile
