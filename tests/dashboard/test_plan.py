from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Role
from core.clock import now
from core.money import format_money
from metering.costs import fee_back_minor, period_cost
from plans.models import Period, Subscription
from plans.periods import next_month
from plans.queries import current_period, current_subscription
from plans.services import activate_subscription
from tests.cast import Cast, create_cast
from tests.factories import create_membership, create_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> Cast:
    return create_cast()


def subscription(cast: Cast) -> Subscription:
    return current_subscription(cast.northwind, at=now())


def test_the_page_names_the_plan_its_terms_and_the_trial(cast: Cast, client: Client) -> None:
    client.force_login(cast.alice)
    page = client.get("/plan/").content.decode()
    for text in (
        "Starter",
        "50,000 calls a month",
        "then $0.001 a call",
        "Nothing is charged during the trial",
        "Enterprise",
    ):
        assert text in page


def test_an_upgrade_says_that_it_is_at_once_and_does_it(cast: Cast, client: Client) -> None:
    client.force_login(cast.alice)
    url = reverse("dashboard:plan-change", args=["professional"])
    assert "At once" in client.get(url).content.decode()
    assert client.post(url).status_code == 302
    assert subscription(cast).version.plan.slug == "professional"


def test_an_upgrade_says_what_of_the_fee_goes_back(
    cast: Cast, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = now()
    monkeypatch.setattr("dashboard.views.plan.now", lambda: at)
    client.force_login(cast.alice)
    url = reverse("dashboard:plan-change", args=["professional"])
    assert "You get back" not in client.get(url).content.decode()  # a trial has no fee
    activate_subscription(subscription=subscription(cast), by=None, at=at)
    start, periods = at - timedelta(days=15), Period.objects.for_organization(cast.northwind)
    period = current_period(cast.northwind, at=at)
    periods.exclude(pk=period.pk).delete()
    periods.update(is_trial=False, anchor=start, starts_at=start, ends_at=next_month(start, start))

    page = client.get(url).content.decode()

    back = fee_back_minor(current_period(cast.northwind, at=at), at=at)
    assert 0 < back < 4_900
    assert f"{format_money(back, 'USD')} of this month’s fee" in page
    assert "You get back" not in client.get(reverse("dashboard:plan-change", args=["free"])).content.decode()
    client.post(url)
    closed = periods.select_related("version__plan", "organization").get(pk=period.pk)
    lines = period_cost(cast.northwind, period=closed).lines
    assert [-line.amount_minor for line in lines if line.kind == "fee_credit"] == [back]


def test_a_downgrade_says_when_and_what_is_lost(cast: Cast, client: Client) -> None:
    activate_subscription(subscription=subscription(cast), by=None, at=now())
    client.force_login(cast.alice)
    url = reverse("dashboard:plan-change", args=["free"])
    page = client.get(url).content.decode()
    assert "At the end of this period" in page
    assert "Webhooks" in page
    client.post(url)
    assert subscription(cast).version.plan.slug == "starter"
    assert subscription(cast).next_version.plan.slug == "free"  # type: ignore[union-attr]
    assert "Keep Starter" in client.get("/plan/").content.decode()
    client.post("/plan/keep/")
    assert subscription(cast).next_version is None
    assert client.get(reverse("dashboard:plan-change", args=["starter"])).status_code == 302


def test_cancelling_asks_for_the_name_and_can_be_undone(cast: Cast, client: Client) -> None:
    client.force_login(cast.alice)
    assert client.post("/plan/cancel/", {"confirm": "wrong"}).status_code == 422
    assert subscription(cast).cancels_at is None
    assert client.post("/plan/cancel/", {"confirm": "Northwind Maps"}).status_code == 302
    assert subscription(cast).cancels_at is not None
    assert "Undo the cancellation" in client.get("/plan/").content.decode()
    client.post("/plan/keep/")
    assert subscription(cast).cancels_at is None


def test_an_unknown_plan_is_not_there(cast: Cast, client: Client) -> None:
    client.force_login(cast.alice)
    assert client.get(reverse("dashboard:plan-change", args=["platinum"])).status_code == 404


def test_developers_see_the_plan_but_do_not_change_it(cast: Cast, client: Client) -> None:
    client.force_login(cast.bob)
    assert client.get("/plan/").status_code == 200
    assert client.post(reverse("dashboard:plan-change", args=["free"])).status_code == 403
    assert client.post("/plan/cancel/", {"confirm": "Northwind Maps"}).status_code == 403


def test_billing_members_change_it(cast: Cast, client: Client) -> None:
    finance = create_user("finance@northwind.example")
    create_membership(organization=cast.northwind, user=finance, role=Role.BILLING)
    client.force_login(finance)
    assert client.post(reverse("dashboard:plan-change", args=["enterprise"])).status_code == 302


def test_prices_are_public_and_worked_out(cast: Cast, client: Client) -> None:
    page = client.get("/pricing/").content.decode()
    for text in ("$49", "50,000 calls included", "14 days free", "$119.00", "Priority support", "SLA 99.99%"):
        assert text in page


def test_a_member_sees_the_own_plan_marked(cast: Cast, client: Client) -> None:
    client.force_login(cast.alice)
    assert "Your plan" in client.get("/pricing/").content.decode()


def test_errors_are_documented_by_code(client: Client) -> None:
    page = client.get("/docs/errors/").content.decode()
    for code in ("rate_limited", "trial_over", "feature_not_in_plan", "upstream_timeout"):
        assert f'id="{code}"' in page
