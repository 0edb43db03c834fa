"""A customer's whole life in Chromium: sign-up, Checkout, a month of 119.00 USD, a failed renewal, 402, payment, upgrade, the end.

Everything is told by webhooks that the stand-in delivers to the running portal; the portal's clock is the stand-in's.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any

import pytest
from django.conf import LazySettings
from django.core import mail

from accounts.models import Organization
from billing.models import StripeInvoice
from billing.stripe.catalogue_apply import apply_catalogue
from billing.stripe.client import stripe_client
from billing.stripe.events import HANDLED
from plans.default_catalogue import install_default_catalogue
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.payer import GOOD, Payer
from tests.billing.stripe.scenario import live
from tests.eager import tasks_at_once
from tests.factories import PASSWORD, create_product, create_route

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]
NAME = "Fabrikam Routing"


class Told(Payer):
    """Nothing is fetched here: the portal knows what the webhooks told it."""

    def hear(self) -> None:
        assert self.standin.control("hooks/wait", "POST", {"seconds": 20})["idle"]
        self.organization.refresh_from_db()

    def pass_time(self, span: timedelta) -> None:
        super().pass_time(span)
        self.hear()


@dataclass
class StandinTime:
    """In place of `datetime` in core.clock: the portal's time is the stand-in's."""

    standin: Standin

    def now(self, zone: tzinfo) -> datetime:
        return Payer._now(self.standin).astimezone(zone)


@pytest.fixture
def portal(
    stripe_standin: Standin, live_server: Any, settings: LazySettings, monkeypatch: pytest.MonkeyPatch,
    usage_redis: Any,
) -> Iterator[str]:  # fmt: skip
    """The portal's address: it runs, has its prices at Stripe, and Stripe calls its webhook."""
    settings.PORTAL_URL = live_server.url
    directives = settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]
    pages = [*directives["form-action"], stripe_standin.url]
    settings.CONTENT_SECURITY_POLICY = {"DIRECTIVES": directives | {"form-action": pages}}
    monkeypatch.setattr("core.clock.datetime", StandinTime(stripe_standin))
    # Retries go on longer than our days of grace, as Stripe's own advice of two weeks does.
    stripe_standin.control("settings", "POST", {"retry_days": [3, 5, 9, 14]})
    at = Payer._now(stripe_standin)
    install_default_catalogue(at=at)
    apply_catalogue(at=at)
    create_route(create_product(), "/v1/search")
    hook: Any = {"url": f"{live_server.url}/webhooks/stripe", "enabled_events": HANDLED}
    settings.STRIPE_WEBHOOK_SECRET = stripe_client().v1.webhook_endpoints.create(hook).secret
    with tasks_at_once():
        yield live_server.url


def sign_up(page: Any, portal: str) -> None:
    page.goto(f"{portal}/pricing/")
    page.locator('a[href="/accounts/signup/?plan=starter"]').first.click()
    page.get_by_label("Email").fill("dana@fabrikam.example")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Organization").fill(NAME)
    page.get_by_role("button", name="Create my account").click()
    page.locator("#new-key").wait_for()
    mails = " ".join(str(one.body) for one in mail.outbox)
    link = re.search(r"https?://[^/\s]+(/accounts/confirm-email/\S+)", mails)
    assert link is not None
    page.goto(portal + link[1])
    page.get_by_role("button", name="Yes, it is mine").click()
    page.wait_for_url("**/welcome/")


def pay(page: Any, button: Any) -> None:
    """Type the good card on Stripe's page."""
    page.get_by_label("Card number").fill(GOOD)
    page.get_by_label("Expiration").fill("12/34")
    page.get_by_label("CVC").fill("123")
    page.get_by_role("button", name=button).click()


@dataclass
class BrowserWorld:
    """Everything is clicked, on our pages and on Stripe's."""

    page: Any
    portal: str
    payer: Told

    def subscribe(self) -> None:
        page = self.page
        page.goto(f"{self.portal}/plan/")
        page.get_by_role("button", name="Add a payment method").click()
        page.wait_for_url(f"{self.payer.standin.url}/**")
        page.get_by_label("Email").fill("dana@fabrikam.example")
        pay(page, re.compile("Start|Subscribe|Pay"))
        page.get_by_text("Thank you. Your plan goes on by itself").wait_for()
        page.goto(f"{self.portal}/welcome/")
        page.get_by_role("button", name="Create my live key").click()
        assert page.locator("#new-key").inner_text().startswith("fb_live_")

    def pay(self, invoice: StripeInvoice) -> None:
        self.page.goto(invoice.hosted_url)
        pay(self.page, re.compile("Pay"))
        self.page.get_by_text("Paid").first.wait_for()

    def upgrade(self) -> int:
        """What the button says (a credit changes only from second to second: a few cents a minute)."""
        self.page.goto(f"{self.portal}/plan/to/professional/")
        button = self.page.get_by_role("button", name=re.compile("^Pay .* and change$"))
        shown = int(re.sub(r"\D", "", button.inner_text()))
        button.click()
        self.page.get_by_text("Professional it is.").wait_for()
        return shown

    def cancel(self) -> None:
        page = self.page
        page.goto(f"{self.portal}/plan/")
        page.get_by_role("button", name="Cancel plan").first.click()
        page.locator("dialog[open] input[name=confirm]").fill(NAME)
        page.locator("dialog[open] button[type=submit]").last.click()
        page.get_by_text("Cancelled. Your keys work until").wait_for()


def test_from_sign_up_to_the_end(portal: str, stripe_standin: Standin, browser_page: Any) -> None:
    sign_up(browser_page, portal)
    payer = Told(stripe_standin, Organization.objects.get(name=NAME))

    live(BrowserWorld(browser_page, portal, payer))

    hooks = stripe_standin.control("hooks")["counters"]
    assert hooks["delivered"] > 30
    assert (hooks["failed"], hooks["given_up"]) == (0, 0)
