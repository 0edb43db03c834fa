"""The pages of the second step in Chromium under the strict policy: they fit, and an app is set up."""

import os
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.core.cache import cache

from accounts.services import create_staff
from tests.factories import PASSWORD

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]
SHOTS = os.environ.get("FAREBOX_SHOTS", "")


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_an_app_is_set_up(live_server: Any, new_page: Any, width: int, dark: bool) -> None:
    cache.clear()
    create_staff(email="ops@farebox.example", password=PASSWORD)
    page, troubles = new_page(width=width, dark=dark), []
    page.on("console", lambda line: troubles.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(f"{live_server.url}/accounts/login/?next=/accounts/2fa/")
    page.get_by_label("Email").fill("ops@farebox.example")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Set it up").wait_for()
    _look(page, f"second-step-{width}")
    page.get_by_role("link", name="Set it up").click()
    if "reauthenticate" in page.url:
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Go on").click()
    secret = page.locator("code").inner_text()
    _look(page, f"second-step-app-{width}")
    code = format_hotp_value(hotp_value(secret, next(iter(yield_hotp_counters_from_time()))))
    page.get_by_role("textbox").last.fill(code)
    page.get_by_role("button", name="Turn it on").click()
    page.get_by_role("heading", name="Recovery codes").wait_for()
    assert len(page.locator("pre").inner_text().split()) == 10
    _look(page, f"second-step-codes-{width}")
    page.goto(f"{live_server.url}/accounts/2fa/")
    page.get_by_text("10 are left").wait_for()
    _look(page, f"second-step-on-{width}")
    assert troubles == []


def _look(page: Any, name: str) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
