"""The staff page "Simulator": ask, watch, read, run again. Nobody but staff, and no query for each customer."""

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from decimal import Decimal
from unittest.mock import patch

import pytest
from django.test import Client

from accounts.models import Organization
from billing import tasks
from billing.models import SimulationRun, SimulationState
from billing.simulator import request_simulation, run_simulation
from core.clock import now
from plans.models import CostPrices, Plan, PlanVersion, RouteCost, VersionState
from plans.queries import newest_version
from tests.billing.test_adviser import LATER, START, customer
from tests.eager import tasks_at_once
from tests.factories import create_plan, create_product, create_route, create_user

pytestmark = pytest.mark.django_db(transaction=True)
Budget = Callable[[int], AbstractContextManager[object]]
RUN = "/staff/simulator/{}/"


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(create_user("staff@farebox.example", is_staff=True))
    return client


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    with tasks_at_once():
        yield


def draft(fee_minor: int = 6_000) -> PlanVersion:
    """60 USD and half of Starter's price for each call above 100,000."""
    version = create_plan(
        "dearer", fee_minor=fee_minor, included=Decimal(100_000), unit_price=Decimal("0.0005")
    )
    PlanVersion.objects.filter(pk=version.pk).update(state=VersionState.DRAFT)
    version.refresh_from_db()
    return version


def named(organization: Organization, name: str) -> Organization:
    Organization.objects.filter(pk=organization.pk).update(name=name)
    return organization


def asked(version: PlanVersion, *, percent: int = 20) -> SimulationRun:
    return request_simulation(version=version, plan=None, months=3, percent=percent, by=None, at=now())


def done(version: PlanVersion, *, percent: int = 20) -> SimulationRun:
    run = asked(version, percent=percent)
    assert run_simulation(run=run, at=LATER)
    return run


def page(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return answer.content.decode()


def test_staff_ask_and_read_the_answer(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heavy pays 3 x (49 + 350) and would pay 3 x (60 + 150); light pays 3 x 49 and would pay 3 x 60."""
    named(customer("starter", 400_000), "Heavy"), named(customer("starter", 10), "Tiny Ltd")
    version = draft()
    monkeypatch.setattr("billing.tasks.now", lambda: LATER)
    form = page(staff, "/staff/simulator/")
    assert form.index('<optgroup label="Drafts">') < form.index('<optgroup label="Published">')
    answer = staff.post(
        "/staff/simulator/", {"version": version.pk, "plan": Plan.objects.get(slug="starter").pk, "months": 3, "percent": 20}
    )  # fmt: skip
    run = SimulationRun.objects.get()
    assert answer["Location"] == RUN.format(run.public_id)
    assert (run.state, run.plan, run.requested_by) == (
        SimulationState.DONE, Plan.objects.get(slug="starter"), answer.wsgi_request.user,
    )  # fmt: skip
    shown = page(staff, answer["Location"])
    assert '<dd class="stat-value">$1,344.00</dd>' in shown
    assert '<dd class="stat-value">$810.00</dd>' in shown
    assert "-$534.00, -39.7%" in shown
    assert "no cost prices" in shown
    assert "usage would not have changed" in shown
    assert "data-hx-trigger" not in shown
    assert "Tiny Ltd" in shown
    assert "Heavy" not in shown  # those who pay more come first
    less = page(staff, answer["Location"] + "?show=less")
    assert "Heavy" in less
    assert "-$567.00" in less
    assert "Tiny Ltd" not in less
    assert "Done" in page(staff, "/staff/simulator/")


def test_who_pays_over_so_much_more_is_shown_alone(staff: Client) -> None:
    named(customer("starter", 10), "Tiny Ltd")  # 49 -> 60: 22.4 % more
    run = done(draft(), percent=22)
    assert "Tiny Ltd" in page(staff, RUN.format(run.public_id) + "?show=hard")
    other = done(PlanVersion.objects.get(plan__slug="dearer"), percent=23)
    hard = page(staff, RUN.format(other.public_id) + "?show=hard")
    assert "Pay over 23 % more" in hard
    assert "Tiny Ltd" not in hard


def test_margins_and_who_was_left_out_are_told(staff: Client) -> None:
    """400,000 calls at 0.00001 in three months cost 12 of 1,197 and of 630."""
    route = create_route(create_product())
    RouteCost.objects.create(route=route, compute_ms=Decimal(1), kb_out=Decimal(0))
    CostPrices.objects.create(
        valid_from=START, currency="USD", per_compute_ms=Decimal("0.00001"), per_memory_gb_second=0, per_kb_out=0,
        per_third_party_call=0,
    )  # fmt: skip
    customer("starter", 400_000)
    create_plan("euro", currency="EUR", fee_minor=100, trial_days=14)
    customer("euro", 10)
    shown = page(staff, RUN.format(done(draft()).public_id))
    assert '<dd class="stat-value">$1,185.00</dd>' in shown
    assert '<dd class="stat-value">$618.00</dd>' in shown
    assert "99.0% of revenue" in shown
    assert "1 customer left out: it pays in EUR." in shown


def test_usage_that_a_quota_would_have_refused_is_pointed_out(staff: Client) -> None:
    customer("starter", 5_000)
    shown = page(staff, RUN.format(done(newest_version("free")).public_id) + "?show=less")
    assert "1 customer used more in some month than this version’s hard quotas allow" in shown
    assert "over a quota" in shown


def test_nobody_to_compare_is_said(staff: Client) -> None:
    assert "No customer could be compared" in page(staff, RUN.format(done(draft()).public_id))


def test_while_it_runs_the_page_asks_again_and_stops_when_done(
    staff: Client, django_assert_max_num_queries: Budget
) -> None:
    run = asked(draft())
    address = RUN.format(run.public_id)
    assert "Waiting for a worker." in page(staff, address)
    SimulationRun.objects.update(state="running", progress_at=now(), periods_done=30, periods_in_all=120)
    shown = page(staff, address)
    assert f'data-hx-get="{address}" data-hx-trigger="every 2s"' in shown
    assert 'aria-live="polite"' in shown
    with django_assert_max_num_queries(4):
        part = staff.get(address, headers={"HX-Request": "true"})
    assert "30 of 120 months looked at." in part.content.decode()
    assert 'value="25"' in part.content.decode()
    assert "<html" not in part.content.decode()
    SimulationRun.objects.update(state="done")
    over = staff.get(address, headers={"HX-Request": "true"})
    assert (over["HX-Refresh"], over.content) == ("true", b"")
    assert "data-hx-trigger" not in page(staff, address)


def test_a_run_whose_worker_died_is_run_again_in_its_place(staff: Client) -> None:
    run = asked(draft())
    address = RUN.format(run.public_id)
    SimulationRun.objects.update(state="running", progress_at=now() - timedelta(minutes=11))
    shown = page(staff, address)
    assert "No sign of life for ten minutes" in shown
    assert "data-hx-trigger" not in shown
    assert "Interrupted" in page(staff, "/staff/simulator/")
    answer = staff.post(f"{address}again/")
    assert answer["Location"] == address
    run.refresh_from_db()
    assert (SimulationRun.objects.count(), run.state) == (1, SimulationState.DONE)


def test_a_failed_run_says_what_to_do(staff: Client) -> None:
    run = asked(draft())
    with patch.object(tasks.simulate, "apply_async", side_effect=ConnectionRefusedError):
        tasks.queue_simulation(run)
    shown = page(staff, RUN.format(run.public_id))
    assert "Run it again; if it fails once more" in shown
    assert run.public_id in shown
    staff.post(RUN.format(run.public_id) + "again/")
    run.refresh_from_db()
    assert run.state == SimulationState.DONE


def test_a_finished_run_is_asked_anew_beside_itself(staff: Client) -> None:
    run = done(draft())
    answer = staff.post(RUN.format(run.public_id) + "again/")
    other = SimulationRun.objects.exclude(pk=run.pk).get()
    assert answer["Location"] == RUN.format(other.public_id)
    assert staff.get(RUN.format(run.public_id) + "again/").status_code == 302
    assert SimulationRun.objects.count() == 2


def test_the_csv_has_every_customer(staff: Client) -> None:
    named(customer("starter", 400_000), "=Heavy"), named(customer("starter", 10), "Tiny Ltd")
    run = done(draft())
    address = RUN.format(run.public_id) + "csv/"
    rows = list(csv.DictReader(io.StringIO(staff.get(address).content.decode())))
    assert [(row["name"], row["now"], row["then"], row["difference"], row["cost"]) for row in rows] == [
        ("'=Heavy", "1197.00", "630.00", "-567.00", ""),
        ("Tiny Ltd", "147.00", "180.00", "33.00", ""),
    ]
    losers = list(csv.DictReader(io.StringIO(staff.get(address + "?show=more").content.decode())))
    assert [row["name"] for row in losers] == ["Tiny Ltd"]
    assert staff.get(RUN.format(asked(run.version).public_id) + "csv/").status_code == 404


def test_customers_and_runs_are_paged_the_largest_and_newest_first(
    staff: Client, monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: Budget
) -> None:
    monkeypatch.setattr("dashboard.views.staff_simulator.CUSTOMERS_SHOWN", 2)
    monkeypatch.setattr("dashboard.views.staff_simulator.RUNS_SHOWN", 2)
    for number in range(3):
        named(customer("starter", 110_000 * number), f"Customer {number}")
    version = draft(fee_minor=20_000)
    run = done(version)
    with django_assert_max_num_queries(4):
        first = page(staff, RUN.format(run.public_id))
    assert first.index("Customer 0") < first.index("Customer 1")
    assert "Customer 2" not in first
    second = page(staff, RUN.format(run.public_id) + "?show=more&page=2")
    assert "Customer 2" in second
    assert "Page 2 of 2" in second
    for _ in range(2):
        asked(version)
    with django_assert_max_num_queries(8):
        assert "Page 1 of 2" in page(staff, "/staff/simulator/")
    assert run.public_id in page(staff, "/staff/simulator/?page=2")


@pytest.mark.parametrize(
    "wrong", [{"version": "0"}, {"months": "25"}, {"months": "0"}, {"percent": "-1"}, {"plan": "0"}]
)
def test_a_question_that_makes_no_sense_is_sent_back(staff: Client, wrong: dict[str, str]) -> None:
    right = {"version": str(draft().pk), "plan": "all", "months": "3", "percent": "20"}
    answer = staff.post("/staff/simulator/", right | wrong)
    assert answer.status_code == 422
    assert not SimulationRun.objects.exists()


def test_customers_find_nothing_here(client: Client) -> None:
    run = done(draft())
    client.force_login(create_user("alice@northwind.example"))
    for address in (
        "/staff/simulator/",
        *(RUN.format(run.public_id) + end for end in ("", "csv/", "again/")),
    ):
        assert client.get(address).status_code == 404
        assert client.post(address).status_code in (404, 405)
    assert SimulationRun.objects.count() == 1


def test_the_admin_shows_runs_and_changes_none(staff: Client) -> None:
    run = done(draft())
    base = "/admin/billing/simulationrun/"
    assert run.public_id in page(staff, base)
    shown = page(staff, f"{base}{run.pk}/change/")
    assert 'name="_save"' not in shown
    assert staff.post(f"{base}{run.pk}/delete/").status_code == 403
