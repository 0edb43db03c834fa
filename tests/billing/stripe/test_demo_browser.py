"""What the README's "Try it" walks through in the demo: months end by a button, a payment fails, the door closes and opens."""

import re
from datetime import timedelta
from typing import Any

import pytest

from accounts.models import Organization, User
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.payer import FAILS_LATER
from tests.billing.stripe.scenario import refusal
from tests.billing.stripe.test_invoices_equal import use
from tests.billing.stripe.test_scenario_browser import NAME, Told, pay, portal, sign_up
from tests.factories import PASSWORD, create_user

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]
__all__ = ["portal"]  # the fixture
SOON = timedelta(seconds=30)


def staff_at(page: Any, portal: str, organization: Organization) -> Any:
    """A page of the staff's, with the customer's documents."""
    User.objects.filter(pk=create_user("staff@farebox.example", is_staff=True).pk).update(is_superuser=True)
    staff = page.context.browser.new_context().new_page()
    staff.goto(f"{portal}/accounts/login/?next=/staff/invoices/{organization.public_id}/")
    staff.get_by_label("Email").fill("staff@farebox.example")
    staff.get_by_label("Password").fill(PASSWORD)
    staff.get_by_role("button", name="Sign in").click()
    staff.get_by_role("heading", name="Demo clock").wait_for()
    return staff


def test_the_demo_is_walked_through(portal: str, stripe_standin: Standin, browser_page: Any) -> None:
    page = browser_page
    sign_up(page, portal)
    payer = Told(stripe_standin, Organization.objects.get(name=NAME))
    page.goto(f"{portal}/plan/")
    page.get_by_role("button", name="Add a payment method").click()
    page.get_by_label("Email").fill("dana@fabrikam.example")
    pay(page, re.compile("Start"))
    page.get_by_text("Create a live key under API keys.").wait_for()
    payer.hear()
    staff = staff_at(page, portal, payer.organization)

    def end_month() -> None:
        staff.reload()
        staff.get_by_role("button", name="End the month now").click()
        staff.get_by_text("The month has ended.").wait_for()
        payer.pass_time(SOON)  # the draft is final and charged

    end_month()  # the trial's
    use(payer, 60_000)
    end_month()
    page.goto(f"{portal}/invoices/")
    page.get_by_role("link", name=re.compile("^Statement")).first.click()
    page.get_by_text("60,000 calls").wait_for()
    page.get_by_role("link", name="why?").last.click()
    page.get_by_role("heading", name="What it is made of").wait_for()

    _save_failing_card(page, portal)
    end_month()
    page.goto(f"{portal}/usage/")
    page.get_by_text("A payment is overdue.").first.wait_for()
    assert refusal(payer) == ""
    staff.reload()
    staff.get_by_role("button", name="End the days of grace").click()
    staff.get_by_text("The days of grace are over").wait_for()
    assert refusal(payer) == "payment_required"

    page.reload()
    page.get_by_text("Calls are refused with 402 until it is made.").wait_for()
    page.get_by_role("link", name=re.compile("^Pay [$]")).first.click()
    pay(page, re.compile("^Pay"))
    page.get_by_text("Paid").first.wait_for()
    payer.hear()
    assert refusal(payer) == ""
    page.goto(f"{portal}/plan/")
    assert page.get_by_text("overdue").count() == 0


def _save_failing_card(page: Any, portal: str) -> None:
    """On Stripe's customer portal, as the staff's page hints; the way back leads to the plan."""
    page.goto(f"{portal}/plan/")
    page.get_by_role("button", name="Card, address and tax number").click()
    page.get_by_role("link", name="Change payment method").click()
    page.get_by_label("Card number").fill(FAILS_LATER)
    page.get_by_label("Expiration").fill("12/34")
    page.get_by_label("CVC").fill("123")
    page.get_by_role("button", name="Save card").click()
    page.get_by_role("link", name="Back").click()
    page.wait_for_url(f"{portal}/plan/")
