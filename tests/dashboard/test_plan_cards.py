"""Price lists as people read them: every pricing model in words, and the switch between currencies and intervals."""

from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Organization
from core.clock import now
from dashboard.plan_cards import plan_card
from plans.models import Plan, PlanVersion
from plans.publishing import new_draft, publish_version
from plans.queries import find_offer, newest_version, offer_key
from tests.cast import Cast, create_cast
from tests.factories import PASSWORD
from tests.plans.price_kit import component, meter, version_of

pytestmark = pytest.mark.django_db
D = Decimal


def another_list(slug: str = "starter", **fields: object) -> PlanVersion:
    draft = new_draft(version=newest_version(slug), by=None, at=now())
    PlanVersion.objects.filter(pk=draft.pk).update(**fields)
    return publish_version(version=draft, by=None, at=now())


@pytest.fixture
def cast() -> Cast:
    return create_cast()


def test_every_pricing_model_has_its_words() -> None:
    calls, data = (
        meter("calls", name="Calls", unit="call"),
        meter("data", name="Data", unit="GB", dimensions=["way"]),
    )
    steps = (("10000", "0", "0"), ("100000", "0.001", "0"), (None, "0.0008", "5"))
    version = version_of(
        component(calls, model="graduated", tiers=steps),
        component(data, model="package", unit_price=D(5), package_size=D(100), included=D(20), match={"way": "out"}),
        component(data, model="per_unit", unit_price=D(0)),
        component(meter("seats", name="Seats", unit="seat"), included=D(3)),
        component(meter("jobs", name="Jobs", unit="job"), model="volume", tiers=(("10", "2", "0"), (None, "1", "0"))),
        windows=((1, 20), (60, 600), (45, 9)),
    )  # fmt: skip
    card = plan_card(version)
    assert (card.included, card.overage) == (
        10_000,
        "then $0.001 a call, $0.0008 above 100,000 and $5.00 once",
    )
    assert card.extras == [
        "Data out: 20 GB included, then $5.00 for each 100 GB begun",
        "Data: free",
        "Seats: 3 seats included, then refused",
        "Jobs: $2.00 a job, $1.00 above 10 for all of them",
    ]
    assert card.windows == ["20 a second", "9 in 45 seconds", "600 a minute"]


def test_the_example_is_a_month_also_of_a_yearly_list(cast: Cast) -> None:
    assert plan_card(newest_version("starter")).example == "$119.00"
    assert plan_card(newest_version("free")).example == "stops at 1,000 calls"
    assert plan_card(another_list(interval="year", fee_minor=49_000)).example == "$110.83"


def test_one_list_needs_no_switch(cast: Cast, client: Client) -> None:
    assert 'aria-label="Currency"' not in client.get("/pricing/").content.decode()


def test_the_pricing_page_switches_currency_and_interval(cast: Cast, client: Client) -> None:
    another_list(interval="year", fee_minor=49_000)
    another_list(currency="EUR", fee_minor=4_500)
    page = client.get("/pricing/").content.decode()
    assert "Yearly" in page
    assert "$49<" in page or "$49 " in page
    yearly = client.get("/pricing/?currency=USD&interval=year").content.decode()
    assert "$490" in yearly
    assert "Enterprise" not in yearly
    assert "€45" in client.get("/pricing/?currency=EUR").content.decode()
    assert "$49" in client.get("/pricing/?currency=XXX&interval=week").content.decode()


def test_the_plan_page_opens_on_the_customers_own_list_and_marks_it(cast: Cast, client: Client) -> None:
    yearly = another_list(interval="year", fee_minor=49_000)
    subscription = cast.northwind.subscriptions.get()
    client.force_login(cast.alice)
    assert client.get("/plan/").content.decode().count("Your plan") == 1
    assert "Your plan<" not in client.get("/plan/?interval=year").content.decode()
    subscription.version = yearly
    subscription.save()
    page = client.get("/plan/").content.decode()
    assert page.count("Your plan") == 1
    assert "$490" in page


def test_who_is_on_an_earlier_version_keeps_its_terms_and_is_told(cast: Cast, client: Client) -> None:
    another_list(fee_minor=5_900)
    client.force_login(cast.alice)
    page = client.get("/plan/").content.decode()
    assert "You keep the terms you started with." in page
    assert "$49 a month" in page
    assert "$59" in page


def test_a_change_takes_the_list_that_was_chosen(cast: Cast, client: Client) -> None:
    yearly = another_list("professional", interval="year", fee_minor=199_000)
    client.force_login(cast.alice)
    url = reverse("dashboard:plan-change", args=["professional"])
    assert "$199 a month" in client.get(url).content.decode()
    assert client.get(f"{url}?currency=CHF&interval=year").status_code == 404
    client.post(f"{url}?currency=USD&interval=year")
    assert cast.northwind.subscriptions.get().version == yearly


def test_sign_up_takes_the_list_that_was_chosen(cast: Cast, client: Client) -> None:
    yearly = another_list(interval="year", fee_minor=49_000)
    assert offer_key(yearly) == "starter.USD.year"
    assert "$490" in client.get("/accounts/signup/?plan=starter.USD.year").content.decode()
    form = {"email": "dana@fabrikam.example", "password1": PASSWORD, "organization_name": "Fabrikam"}
    client.post("/accounts/signup/", form | {"plan": "starter.USD.year"})
    assert Organization.objects.get(name="Fabrikam").subscriptions.get().version == yearly


def test_keys_of_what_is_not_sold_find_nothing(cast: Cast) -> None:
    assert find_offer("starter") == newest_version("starter")
    Plan.objects.filter(slug="enterprise").update(is_public=False)
    for key in ("", "enterprise", "starter.EUR.month", "starter.USD.week", "none.USD.month", "starter.USD"):
        found = find_offer(key)
        assert found is None or key == "starter.USD"
