"""The preview of a draft in Chromium: it follows what is typed, under the site's CSP, and works without scripts."""

import os
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from core.clock import now
from plans.models import CostPrices, Plan, PlanVersion, RouteCost
from plans.publishing import new_draft
from plans.queries import newest_version
from tests.factories import create_organization, create_product, create_route, create_user
from tests.plans.price_kit import meter

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]
SHOTS = os.environ.get("FAREBOX_SHOTS", "")


def shot(page: Any, name: str) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


def draft_with_two_prices() -> PlanVersion:
    create_organization("Northwind Maps")
    create_organization("Contoso", plan="starter")
    draft = new_draft(version=newest_version("starter"), by=None, at=now())
    data = meter("data", name="Data out", unit="GB", decimals=9)
    steps = draft.components.create(meter=data, model="graduated", position=1)
    steps.tiers.create(up_to=Decimal(10))
    steps.tiers.create(unit_price=Decimal("0.05"), flat_price=Decimal(2))
    route = create_route(create_product(), "/v1/search", meter=draft.components.first().meter)  # type: ignore[union-attr]
    RouteCost.objects.create(route=route, compute_ms=Decimal(120), third_party_calls=Decimal("0.1"))
    CostPrices.objects.create(
        valid_from=now() - timedelta(days=1),
        per_compute_ms=Decimal("0.000002"),
        per_third_party_call=Decimal("0.005"),
    )
    Plan.objects.create(slug="fifth", name="Fifth", position=9)
    return draft


def sign_in(page: Any, live_server: Any) -> None:
    client = Client()
    client.force_login(create_user("staff@farebox.example", is_staff=True))
    cookie = client.cookies["sessionid"].value
    page.context.add_cookies([{"name": "sessionid", "value": cookie, "url": live_server.url}])


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_the_preview_follows_what_is_typed(live_server: Any, new_page: Any, width: int, dark: bool) -> None:
    draft = draft_with_two_prices()
    page, name = new_page(width=width, dark=dark), f"{width}-{'dark' if dark else 'light'}"
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    sign_in(page, live_server)
    address = f"{live_server.url}/admin/plans/planversion/{draft.pk}"
    page.goto(f"{address}/change/")
    page.get_by_text("A customer with 120,000 calls pays $119.00 a month.").wait_for()
    page.locator("#q0").fill("60000")
    page.locator("#q1").fill("30")
    page.locator("#q1").press("Tab")
    page.get_by_text("A customer with 60,000 calls and 30 GB pays $62.00 a month.").wait_for()
    page.locator("#id_fee").fill("10")
    page.locator("#id_fee").press("Tab")
    page.get_by_text("pays $23.00 a month.").wait_for()
    shot(page, f"draft-{name}")
    for step in ("publish", "move", "private"):
        page.goto(f"{address}/{step}/")
        shot(page, f"{step}-{name}")
    page.goto(f"{live_server.url}/admin/plans/planversion/{newest_version('starter').pk}/change/")
    shot(page, f"published-{name}")
    assert PlanVersion.objects.get(pk=draft.pk).fee_minor == 4900
    assert problems == []


def test_the_preview_without_scripts(live_server: Any, browser_page: Any) -> None:
    draft = draft_with_two_prices()
    browser_page.route("**/*.js", lambda route: route.abort())
    sign_in(browser_page, live_server)
    browser_page.goto(f"{live_server.url}/admin/plans/planversion/{draft.pk}/change/")
    browser_page.locator("#q0").fill("60000")
    browser_page.get_by_role("button", name="Work it out").click()
    browser_page.get_by_text("A customer with 60,000 calls pays $59.00 a month.").wait_for()
