"""The page to try the API, in Chromium under the strict policy: it renders, and a call made on it is answered."""

import os
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.metering.api_kit import Customer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]
SHOTS = os.environ.get("FAREBOX_SHOTS", "")


@pytest.mark.parametrize("width", [1280, 360])
def test_an_endpoint_is_tried_on_the_page(
    live_server: Any, new_page: Any, usage_redis: Redis, width: int
) -> None:
    customer = Customer.start()
    page, troubles = new_page(width=width), []
    page.on("console", lambda line: troubles.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(f"{live_server.url}/api/docs")
    page.get_by_role("button", name="Authorize").first.click()
    page.locator("#auth-bearer-value, input[aria-label='auth-bearer-value']").first.fill(
        customer.issued.clear
    )
    page.get_by_role("button", name="Apply credentials").first.click()
    page.get_by_role("button", name="Close").first.click()
    account = page.locator("#operations-account-account")
    account.locator("button").first.click()
    account.get_by_role("button", name="Try it out").click()
    account.get_by_role("button", name="Execute").click()
    account.locator(".live-responses-table .response-col_status", has_text="200").wait_for()
    assert customer.organization.public_id in account.inner_text()
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"api-docs-{width}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert troubles == []
