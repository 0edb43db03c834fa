"""An upgrade whose payment the bank wants confirmed, in Chromium: to the bank, no, to the bank, yes, and back."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.test import Client

from billing.stripe.changes import upgrade_price
from core.money import format_money
from plans.queries import newest_version
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.payer import Payer
from tests.billing.stripe.test_scenario_browser import portal as portal
from tests.billing.stripe.test_subscriptions import _use_card
from tests.factories import create_membership, create_user

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]
SHOTS = os.environ.get("FAREBOX_SHOTS", "")


def _look(page: Any, name: str) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_the_bank_asks(
    portal: str,
    stripe_standin: Standin,
    new_page: Any,
    client: Client,
    width: int,
    dark: bool,
) -> None:
    payer = Payer.start(stripe_standin)
    payer.subscribe()
    payer.pass_time(timedelta(days=20))
    payer.hear()
    _use_card(payer, "pm_card_authenticationRequired")
    owner = create_user("alice@acme.example")
    EmailAddress.objects.create(user=owner, email=owner.email, verified=True, primary=True)
    create_membership(organization=payer.organization, user=owner, role="owner")
    client.force_login(owner)
    page = new_page(width=width, dark=dark)
    cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": portal}
    page.context.add_cookies([cookie])
    look = f"{width}{'-dark' * dark}"

    page.goto(f"{portal}/plan/to/professional/")
    price = upgrade_price(payer.row, newest_version("professional"), at=payer.at)
    page.get_by_role("button", name=f"Pay {format_money(price.due_minor, 'USD')} and change").click()
    page.get_by_role("button", name="Fail authentication").click()
    page.get_by_text("unable to authenticate").wait_for()

    page.goto(f"{portal}/plan/")
    _look(page, f"upgrade-waits-{look}")
    page.get_by_role("button", name="Keep Starter").click()
    page.get_by_text("Nothing was charged, and your plan stays as it is.").wait_for()
    assert page.get_by_role("button", name="Confirm the payment").count() == 0

    page.goto(f"{portal}/plan/to/professional/")
    page.get_by_role("button", name="and change").click()
    page.get_by_role("button", name="Complete authentication").wait_for()
    page.goto(f"{portal}/plan/")
    page.get_by_role("button", name="Confirm the payment").click()
    page.get_by_role("button", name="Complete authentication").click()
    page.get_by_text("Paid").first.wait_for()
    assert stripe_standin.control("hooks/wait", "POST", {"seconds": 20})["idle"]

    page.goto(f"{portal}/plan/")
    _look(page, f"upgrade-done-{look}")
    assert page.get_by_role("button", name="Confirm the payment").count() == 0
    assert payer.row.version == payer.subscription.version == newest_version("professional")
