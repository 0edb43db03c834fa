"""Opening a line in Chromium: level by level in place, back again, and on a phone without scrolling sideways."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from tests.dashboard.test_call_list import Shop

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]
SHOTS = os.environ.get("FAREBOX_SHOTS", "")


def shot(page: Any, name: str) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


def sign_in(page: Any, client: Client, url: str) -> None:
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": url}])


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_a_line_opens_in_place(
    new_page: Callable[..., Any], live_server: Any, usage_redis: Any, width: int, dark: bool
) -> None:
    client = Client()
    Shop(client)
    page, name = new_page(width=width, dark=dark), f"{width}-{'dark' if dark else 'light'}"
    sign_in(page, client, live_server.url)
    page.goto(f"{live_server.url}/usage/")
    page.evaluate("window.stayed = 0")
    page.locator("a.why").nth(1).click()
    page.get_by_role("heading", name="What it is made of").wait_for()
    shot(page, f"explain-line-{name}")
    page.evaluate("window.stayed = 1")
    page.locator("#explain tbody a").first.click()
    page.get_by_role("heading", name="Hours", exact=True).wait_for()
    shot(page, f"explain-hours-{name}")
    page.locator("#explain tbody a").first.click()
    page.get_by_role("heading", name="Calls", exact=True).wait_for()
    assert page.evaluate("window.stayed") == 1, "levels are swapped in place"
    assert "/calls/?hour=" in page.url
    shot(page, f"explain-calls-{name}")
    page.go_back()
    page.get_by_role("heading", name="Hours", exact=True).wait_for()
    for address in (
        "/usage/calls/?reason=billed",
        "/usage/find/?find=req_0000000000000000000001",
        "/usage/?step=7",
    ):
        page.goto(live_server.url + address)
        shot(page, f"{address.strip('/').replace('/', '-').replace('?', '-')}-{name}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
