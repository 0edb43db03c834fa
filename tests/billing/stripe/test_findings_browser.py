"""The pages of differences in Chromium: they fit a phone, and lead from the list to both sides."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from billing.models import FindingKind
from billing.stripe.findings import open_finding
from core.clock import now
from tests.factories import create_organization, create_statement, create_user

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]
SHOTS = os.environ.get("FAREBOX_SHOTS", "")
TIERS = [{"quantity": 50_000, "amount_minor": 0}, {"quantity": 17_000, "amount_minor": 1_700}]


def make_findings() -> None:
    owner = create_organization("Northwind Maps")
    document = create_statement(owner).public_id
    identifier = f"farebox-{owner.public_id}-1-1-2026110514-1"
    side = {"line": "API calls", "currency": "USD", "where": f"{document} line 2"}
    hour = {
        "hour": "2026-11-05T14", "told": 60_000, "counted": 67_000,
        "rows": [{"identifier": identifier, "value": 60_000, "state": "sent", "is_late": True}],
        "usage": [
            {"hour": "2026-11-05T13", "events": 41_000, "units": 41_000},
            {"hour": "2026-11-05T14", "events": 19_000, "units": 19_000},
        ],
    }  # fmt: skip
    open_finding(
        kind=FindingKind.INVOICE, subject="in_1PqW price_1Qr 1762300000", organization_id=owner.pk, at=now(),
        text="A1B2-0003: 67,000 × Starter (Tier 2): other quantity, amount, tiers: Stripe charges 1700, we 1000 (USD minor units), for 67000 and 60000 units",
        theirs=side | {"amount_minor": 1_700, "quantity": "67000", "tiers": TIERS},
        ours=side | {"amount_minor": 1_000, "quantity": "60000", "tiers": [TIERS[0], TIERS[1] | {"quantity": 10_000, "amount_minor": 1_000}]},
        behind={
            "meter": "farebox_api_calls", "told": 60_000, "counted": 67_000, "document": document, "position": 2,
            "events": 60_000, "recorded": 60_000, "hours": [hour], "more": 3,
        },
    )  # fmt: skip
    open_finding(
        kind=FindingKind.CUSTOMER, subject="reconcile: cus_1", organization_id=owner.pk, at=now(),
        text="Northwind Maps (cus_1) was deleted at Stripe, which cannot be undone: speak with them; they pay anew, as a new customer.",
    )  # fmt: skip


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (360, False), (360, True)])
def test_they_fit(
    live_server: Any, client: Client, new_page: Callable[..., Any], width: int, dark: bool
) -> None:
    make_findings()
    client.force_login(create_user("staff@farebox.example", is_staff=True))
    page, name = new_page(width=width, dark=dark), f"{width}-{'dark' if dark else 'light'}"
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies(
        [{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": live_server.url}]
    )
    page.goto(f"{live_server.url}/staff/stripe/findings/")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"findings-{name}.png", full_page=True)
    page.get_by_role("link", name="Invoice and statement differ").click()
    page.get_by_role("heading", name="The calls behind it").wait_for()
    assert page.get_by_text("67,000").count() >= 2
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"finding-{name}.png", full_page=True)
