"""A run in Chromium: the page tells how far it is, shows the answer by itself when it is there, and fits a phone."""

import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from accounts.models import Organization
from billing.models import SimulationRun
from billing.simulator import request_simulation, run_simulation
from core.clock import now
from plans.models import CostPrices, PlanVersion, RouteCost, VersionState
from tests.billing.test_adviser import LATER, START, customer
from tests.factories import create_plan, create_product, create_route, create_user

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]
SHOTS = os.environ.get("FAREBOX_SHOTS", "")


def shot(page: Any, name: str) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


def sign_in(page: Any, client: Client, url: str) -> None:
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": url}])


def draft() -> PlanVersion:
    """Six customers, one who pays in euros, costs of calls; and a draft that is dearer for the small ones."""
    for number, name in enumerate(
        ["Northwind Maps", "Contoso Freight", "Fabrikam Logistics and Sons", "Tailspin", "Wingtip"]
    ):
        organization = customer("starter", 60_000 * number**2)
        Organization.objects.filter(pk=organization.pk).update(name=name)
    create_plan("euro", currency="EUR", fee_minor=100, trial_days=14)
    customer("euro", 10)
    RouteCost.objects.create(route=create_route(create_product()), compute_ms=Decimal(40), kb_out=Decimal(1))
    CostPrices.objects.create(
        valid_from=START, currency="USD", per_compute_ms=Decimal("0.000001"), per_memory_gb_second=0,
        per_kb_out=Decimal("0.00001"), per_third_party_call=0,
    )  # fmt: skip
    version = create_plan("growth", fee_minor=6_000, included=Decimal(100_000), unit_price=Decimal("0.0008"))
    PlanVersion.objects.filter(pk=version.pk).update(state=VersionState.DRAFT)
    version.refresh_from_db()
    return version


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_the_answer_appears_by_itself(
    new_page: Callable[..., Any], live_server: Any, usage_redis: Any, width: int, dark: bool
) -> None:
    client, version = Client(), draft()
    client.force_login(create_user("staff@farebox.example", is_staff=True))
    page, name = new_page(width=width, dark=dark), f"{width}-{'dark' if dark else 'light'}"
    sign_in(page, client, live_server.url)
    run = request_simulation(version=version, plan=None, months=3, percent=20, by=None, at=now())
    rows = SimulationRun.objects.filter(pk=run.pk)
    rows.update(state="running", progress_at=now(), periods_done=5, periods_in_all=20)
    page.goto(f"{live_server.url}/staff/simulator/{run.public_id}/")
    page.get_by_text("5 of 20 months looked at.").wait_for()
    shot(page, f"simulation-running-{name}")
    rows.update(periods_done=15)
    page.get_by_text("15 of 20 months looked at.").wait_for()
    rows.update(state="queued")
    assert run_simulation(run=run, at=LATER)
    page.get_by_role("heading", name="Who is hit").wait_for()
    shot(page, f"simulation-done-{name}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    lost = request_simulation(
        version=version, plan=version.plan, months=1, percent=20, by=None, at=LATER - 10 * (LATER - START)
    )
    for address in (f"{run.public_id}/?show=less", f"{lost.public_id}/", ""):
        page.goto(f"{live_server.url}/staff/simulator/{address}")
        shot(page, f"simulator-{address[-9:-1].strip('/').replace('?', '') or 'list'}-{name}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{live_server.url}/staff/simulator/{run.public_id}/")
    page.wait_for_timeout(2_500)
    assert sum(run.public_id in url for url in asked) == 1, "a run that is over is not asked about again"
