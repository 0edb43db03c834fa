from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Organization, Role
from core.clock import now
from dashboard.advice import advice_line
from plans.models import Period
from plans.queries import newest_version
from tests.billing.test_adviser import customer
from tests.factories import create_membership, create_organization, create_user

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(("calls", "is_advised"), [(400_000, True), (50_000, False)])
def test_the_plan_page_names_the_plan_that_would_have_cost_less(
    client: Client, calls: int, is_advised: bool
) -> None:
    organization, alice = customer("starter", calls), create_user("alice@northwind.example")
    create_membership(organization=organization, user=alice, role=Role.OWNER)
    client.force_login(alice)
    page = client.get("/plan/").content.decode()
    assert (
        "On Professional you would have paid <strong>$600.00</strong> less over the last 3 months" in page
    ) is is_advised


ADVICE = "On Professional you would have paid <strong>$600.00</strong> less over the last 3 months."


@pytest.fixture(autouse=True)
def empty_cache(usage_redis: object) -> None:
    cache.clear()


def member(client: Client, calls: int) -> Organization:
    organization, alice = customer("starter", calls), create_user("alice@northwind.example")
    create_membership(organization=organization, user=alice, role=Role.OWNER)
    client.force_login(alice)
    return organization


@pytest.mark.parametrize(("calls", "is_advised"), [(400_000, True), (50_000, False)])
def test_the_usage_page_says_so_above_what_is_refreshed(
    client: Client,
    calls: int,
    is_advised: bool,
    django_assert_max_num_queries: Callable[[int], AbstractContextManager[object]],
) -> None:
    member(client, calls)
    with django_assert_max_num_queries(56):  # once an hour: some twenty to weigh it
        page = client.get("/usage/").content.decode()
    assert (ADVICE in page) is is_advised
    before, _, after = page.partition('id="fresh"')
    assert (ADVICE in before) is is_advised
    assert ADVICE not in after
    part = client.get("/usage/", headers={"HX-Request": "true"}).content.decode()
    assert "This bill, so far" in part
    assert ADVICE not in part
    with django_assert_max_num_queries(36):
        assert (ADVICE in client.get("/usage/").content.decode()) is is_advised


@pytest.mark.parametrize("calls", [400_000, 50_000])
def test_advice_is_weighed_once_an_hour_and_anew_after_an_act(client: Client, calls: int) -> None:
    organization, at = member(client, calls), now().replace(minute=5)
    period = Period.objects.for_organization(organization).select_related("subscription").latest("starts_at")
    first = advice_line(organization, period=period, at=at)
    assert (first is not None) is (calls == 400_000)
    with CaptureQueriesContext(connection) as none:
        assert advice_line(organization, period=period, at=at.replace(minute=55)) == first
    assert len(none) == 0
    Period.objects.for_organization(organization).update(version=newest_version("professional"))
    organization.version += 1
    again = advice_line(organization, period=period, at=at)
    assert again is None or again.plan_name != "Professional"


def test_the_first_month_of_a_stay_asks_for_nothing(usage_redis: object) -> None:
    organization = create_organization(plan="starter")
    period = (
        Period.objects.for_organization(organization).select_related("subscription").earliest("starts_at")
    )
    with CaptureQueriesContext(connection) as none:
        assert advice_line(organization, period=period, at=now()) is None
    assert len(none) == 0
