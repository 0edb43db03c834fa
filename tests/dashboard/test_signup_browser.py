"""From the pricing page to the key in Chromium: three screens, by keyboard and mouse, and the way without scripts."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core import mail

from core.clock import now
from keys.hashing import digest
from keys.models import ApiKey
from plans.default_catalogue import install_default_catalogue
from tests.eager import tasks_at_once
from tests.factories import PASSWORD, create_product, create_route

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]
SHOTS = os.environ.get("FAREBOX_SHOTS", "")


@pytest.fixture(autouse=True)
def _world(usage_redis: Any) -> Iterator[None]:
    install_default_catalogue(at=now())
    create_route(create_product(), "/v1/search")
    with tasks_at_once():
        yield


def shot(page: Any, name: str) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


def fill(page: Any, email: str) -> None:
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Organization").fill("Fabrikam Routing")


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_pricing_to_key_to_live_key(live_server: Any, new_page: Any, width: int, dark: bool) -> None:
    page, name = new_page(width=width, dark=dark), f"{width}-{'dark' if dark else 'light'}"
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    started = time.monotonic()
    page.goto(f"{live_server.url}/pricing/")
    page.locator('a[href="/accounts/signup/?plan=starter"]').first.click()
    shot(page, f"signup-{name}")
    fill(page, "dana@fabrikam.example")
    page.get_by_role("button", name="Create my account").click()
    clear = page.locator("#new-key").inner_text()
    assert time.monotonic() - started < 30
    assert ApiKey.objects.get(hash=digest(clear)).mode == "test"
    assert clear in page.locator("#first-code-curl").inner_text()
    assert clear not in page.url
    shot(page, f"onboarding-{name}")
    page.get_by_role("button", name="Copy Your test key").click()
    page.get_by_text("Copied", exact=True).first.wait_for()

    link = re.search(
        r"https?://[^/\s]+(/accounts/confirm-email/\S+)", " ".join(str(m.body) for m in mail.outbox)
    )
    assert link is not None
    page.goto(live_server.url + link[1])
    page.get_by_role("button", name="Yes, it is mine").click()
    page.wait_for_url("**/welcome/")
    shot(page, f"welcome-{name}")
    page.get_by_role("button", name="Create my live key").click()
    assert page.locator("#new-key").inner_text().startswith("fb_live_")
    shot(page, f"live-{name}")
    page.goto(f"{live_server.url}/team/")
    page.get_by_label("Email").fill("erin@fabrikam.example")
    page.get_by_role("button", name="Send invitation").click()
    page.get_by_text("We sent an invitation").wait_for()
    shot(page, f"team-{name}")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert problems == []


def test_way_to_the_key_without_scripts(live_server: Any, browser_page: Any) -> None:
    browser_page.route("**/*.js", lambda route: route.abort())
    browser_page.goto(f"{live_server.url}/accounts/signup/?plan=free")
    fill(browser_page, "plain@fabrikam.example")
    browser_page.get_by_role("button", name="Create my account").click()
    assert browser_page.locator("#new-key").inner_text().startswith("fb_test_")
