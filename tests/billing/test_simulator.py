from datetime import timedelta
from decimal import Decimal

import pytest

from billing.models import SimulationState
from billing.simulator import Outcome, read_simulation, request_simulation, run_simulation, simulate
from plans.models import Plan
from plans.queries import newest_version
from tests.billing.test_adviser import LATER, customer
from tests.factories import create_organization, create_plan

pytestmark = pytest.mark.django_db(transaction=True)


def test_each_customer_pays_what_the_other_version_asks_for_the_true_usage() -> None:
    heavy, light = customer("starter", 400_000), customer("starter", 10_000)
    create_organization(plan="starter")  # in its trial: nothing to replay
    draft = create_plan("dearer", fee_minor=6000, included=Decimal(100_000), unit_price=Decimal("0.0005"))
    outcomes = [outcome for _, outcome in simulate(draft, plan=None, months=2, at=LATER)]
    assert [(o.organization_id, o.months, o.now_minor, o.then_minor) for o in outcomes] == [
        (heavy.pk, 2, 2 * (4900 + 35_000), 2 * (6000 + 15_000)),
        (light.pk, 2, 2 * 4900, 2 * 6000),
    ]


def test_only_customers_of_the_plan_are_asked_about() -> None:
    customer("starter", 10)
    professional = customer("professional", 10)
    found = simulate(
        newest_version("starter"), plan=Plan.objects.get(slug="professional"), months=3, at=LATER
    )
    assert [outcome.organization_id for _, outcome in found] == [professional.pk]


def test_yearly_fees_are_compared_by_the_month() -> None:
    customer("starter", 10)
    yearly = create_plan("yearly", fee_minor=12 * 4000, included=Decimal(1000), interval="year")
    ((seen, outcome),) = simulate(yearly, plan=None, months=3, at=LATER)
    assert (seen, outcome.then_minor) == (3, 3 * 4000)


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
    monkeypatch.setattr("billing.simulator.rate_on", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_simulation(run=run, at=LATER + timedelta(days=1))
    run.refresh_from_db()
    assert run.state == SimulationState.FAILED


def test_more_than_a_share_of_nothing_is_anything() -> None:
    assert Outcome(1, "org_1", "A", 1, 0, 1).pays_more_than(20)
    assert not Outcome(1, "org_1", "A", 1, 0, 0).pays_more_than(20)
