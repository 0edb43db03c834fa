"""The page of an upgrade charges what it says, also when it was loaded a while ago, or in the trial."""

import re
from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from django.test import Client

from billing.stripe.client import plain, stripe_client
from plans.models import PlanVersion
from plans.queries import newest_version
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.payer import Payer
from tests.factories import create_membership, create_user

pytestmark = pytest.mark.django_db
URL = "/plan/to/professional/"


@pytest.fixture
def payer(stripe_standin: Standin) -> Payer:
    """Alice in the trial of Starter, her card known."""
    payer = Payer.start(stripe_standin)
    payer.subscribe()
    return payer


@pytest.fixture
def portal(payer: Payer, client: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    owner = create_user("alice@acme.example")
    EmailAddress.objects.create(user=owner, email=owner.email, verified=True, primary=True)
    create_membership(organization=payer.organization, user=owner, role="owner")
    client.force_login(owner)
    monkeypatch.setattr("dashboard.views.plan.now", lambda: payer.at)
    return client


def begin_month(payer: Payer) -> None:
    payer.pass_time(timedelta(days=24))
    payer.hear()
    assert payer.row.status == "active"


def newest_charge(payer: Payer) -> int:
    return int(
        plain(stripe_client().v1.invoices.list({"customer": payer.customer_id}).data[0])["amount_paid"]
    )


def fields(page: str) -> dict[str, str]:
    return dict(re.findall(r'name="(quote)" value="([^"]+)"', page))


def target() -> PlanVersion:
    return newest_version("professional")


def test_a_page_from_the_trial_charges_nothing_that_it_did_not_show(payer: Payer, portal: Client) -> None:
    shown = fields(portal.get(URL).content.decode())
    assert "You pay now</dt><dd><strong>$0.00" in portal.get(URL).content.decode()
    begin_month(payer)
    before = len(stripe_client().v1.invoices.list({"customer": payer.customer_id}).data)

    answer = portal.post(URL, shown)

    assert answer.status_code == 422
    page = answer.content.decode()
    assert "The amount has changed. Nothing was charged." in page
    assert payer.row.version.plan.slug == "starter"
    assert len(stripe_client().v1.invoices.list({"customer": payer.customer_id}).data) == before
    assert portal.post(URL).status_code == 422  # a form without an amount has shown none

    again = fields(page)  # the same answer shows the amount of now
    due = re.search(r"You pay now</dt><dd><strong>\$([\d.]+)", page)
    assert due is not None
    assert portal.post(URL, again).status_code == 302
    assert payer.row.version == target()
    assert newest_charge(payer) == int(due[1].replace(".", "")) > 0


def test_a_downgrade_says_when_it_comes_and_is_taken_back(payer: Payer, portal: Client) -> None:
    begin_month(payer)
    said = portal.post("/plan/to/free/", follow=True).content.decode()
    assert "You change to Free at the end of this period. Nothing changes before." in said
    assert "Keep Starter" in said

    said = portal.post("/plan/keep/", follow=True).content.decode()

    assert "The change is taken back: Starter goes on." in said
    assert "Keep Starter" not in said
    assert payer.row.next_version is None is payer.subscription.next_version
    assert not plain(stripe_client().v1.subscriptions.retrieve(payer.row.stripe_id))["schedule"]
    assert portal.get("/plan/to/starter/").status_code == 302  # nothing to change


def test_a_link_to_another_session_says_that_nothing_was_paid(payer: Payer, portal: Client) -> None:
    said = portal.get("/plan/paid/?session_id=cs_test_unknown", follow=True).content.decode()
    assert "Nothing was paid yet. You can try again." in said
