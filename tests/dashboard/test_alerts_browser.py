"""The page of alerts in Chromium under the strict policy: it fits, nothing is refused, an alert is made."""

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.clock import now
from metering.alerts.services import set_webhook
from tests.cast import Cast, create_cast
from tests.metering.alerts.kit import used
from tests.plans.price_kit import component, meter, put_on, version_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]
SHOTS = os.environ.get("FAREBOX_SHOTS", "")


@pytest.fixture
def cast() -> Cast:
    cast = create_cast()
    priced = component(meter("units"), included=Decimal(1000), unit_price=Decimal("0.01"))
    put_on(cast.northwind, version_of(priced))
    hook = "https://hooks.example/services/secret"
    set_webhook(organization=cast.northwind, url=hook, by=None, at=now())
    used(cast.northwind, 1300)
    used(cast.northwind, 1100)
    return cast


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (360, False), (360, True)])
def test_an_alert_is_made(
    cast: Cast, client: Any, live_server: Any, new_page: Any, width: int, dark: bool
) -> None:
    client.force_login(cast.alice)
    page, troubles = new_page(width=width, dark=dark), []
    session = client.cookies["sessionid"].value
    page.context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
    page.on("console", lambda line: troubles.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(f"{live_server.url}/alerts/")
    _look(page, f"alerts-{width}{'-dark' * dark}")
    page.get_by_role("link", name="New alert").click()
    _look(page, f"alert-new-{width}{'-dark' * dark}")
    page.get_by_label("Threshold").fill("60")
    page.get_by_role("button", name="Make alert").click()
    page.get_by_role("link", name="60 % of the included quantity").wait_for()
    page.goto(f"{live_server.url}/alerts/history/")
    _look(page, f"alert-history-{width}{'-dark' * dark}")
    assert troubles == []


def _look(page: Any, name: str) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
