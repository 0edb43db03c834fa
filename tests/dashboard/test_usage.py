import random
from datetime import timedelta
from decimal import Decimal

import pytest
from django.test import Client

from accounts.models import Organization
from core.clock import now, to_micros
from core.ids import event_id
from keys.models import ApiKey
from metering.events import Event
from metering.services import ingest_history
from plans.models import Meter, Period
from plans.queries import current_period
from tests.cast import Cast, create_cast
from tests.factories import create_key, create_product, create_route, create_user

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cast(usage_redis: object) -> Cast:
    return create_cast()


def use(
    organization: Organization, key: ApiKey, *, calls: int = 1, reason: str = "", status: int = 200, mode: str = "live",
    seconds_ago: int = 30,
) -> None:  # fmt: skip
    """One event of the past, stored by the ledger's own code."""
    at = now() - timedelta(seconds=seconds_ago)
    route = create_route(create_product(f"p{random.randrange(10**9)}"), "/v1/search")
    period: Period = current_period(organization, at=now())
    at = max(at, period.starts_at)
    event = Event(
        id=event_id(to_micros(at), random.getrandbits(74)), occurred_at_us=to_micros(at), organization_id=organization.pk,
        mode=mode, meter_id=Meter.objects.get().pk, period_id=period.pk,
        quantity=Decimal(0) if reason else Decimal(calls), door="gateway", reason=reason, api_key_id=key.pk,
        product_id=route.product_id, route_id=route.pk, status=status, duration_us=38_000,
    )  # fmt: skip
    ingest_history([event], at=now())


def test_before_the_first_call_the_page_says_the_next_step(cast: Cast, client: Client) -> None:
    client.force_login(cast.alice)
    page = client.get("/usage/").content.decode()
    assert "Create a key, then make your first call" in page
    assert "$0.00" in page


def test_calls_cost_and_what_was_not_charged_are_shown(cast: Cast, client: Client) -> None:
    key = create_key(organization=cast.northwind).key
    use(cast.northwind, key, calls=1234)
    use(cast.northwind, key, reason="upstream_timeout", status=504)
    client.force_login(cast.alice)
    page = client.get("/usage/").content.decode()
    assert "1,234" in page
    assert "of 50,000 included" in page
    assert "48,766" in page
    assert "1 upstream timed out" in page
    assert "production" in page


def test_first_test_calls_are_seen_without_being_asked_for(cast: Cast, client: Client) -> None:
    key = create_key(organization=cast.northwind, mode="test").key
    use(cast.northwind, key, calls=3, mode="test")
    client.force_login(cast.alice)
    page = client.get("/usage/")
    assert page.context["choices"].mode == "test"
    assert "These are your test calls" in page.content.decode()
    assert client.get("/usage/?mode=live").context["choices"].mode == "live"
    assert len(client.get("/usage/calls/").context["calls"]) > 0
    use(cast.northwind, create_key(organization=cast.northwind).key, calls=1)
    page = client.get("/usage/")
    assert page.context["choices"].mode == "live"
    assert "These are your test calls" not in page.content.decode()


@pytest.mark.parametrize("query", ["?by=route", "?step=hour", "?mode=test", "?by=nonsense&step=x&mode=y"])
def test_every_choice_has_its_page(cast: Cast, client: Client, query: str) -> None:
    use(cast.northwind, create_key(organization=cast.northwind).key, calls=5)
    client.force_login(cast.alice)
    assert client.get(f"/usage/{query}").status_code == 200


def test_test_calls_are_apart_from_live_ones(cast: Cast, client: Client) -> None:
    use(cast.northwind, create_key(organization=cast.northwind, mode="test").key, calls=77, mode="test")
    client.force_login(cast.alice)
    assert "77" in client.get("/usage/?mode=test").content.decode()
    assert "test calls are never billed" in client.get("/usage/?mode=test").content.decode()
    assert ">77<" not in client.get("/usage/?mode=live").content.decode()


def test_htmx_gets_the_parts_that_age_only(cast: Cast, client: Client) -> None:
    client.force_login(cast.alice)
    part = client.get("/usage/", headers={"HX-Request": "true"}).content.decode()
    assert "This bill, so far" in part
    assert "<html" not in part


def test_the_page_costs_a_fixed_number_of_queries(
    cast: Cast, client: Client, django_assert_max_num_queries
) -> None:  # type: ignore[no-untyped-def]
    key = create_key(organization=cast.northwind).key
    for _ in range(5):
        use(cast.northwind, key)
    client.force_login(cast.alice)
    with django_assert_max_num_queries(38):  # five of them for the forecast, one for the banner
        client.get("/usage/")


def test_all_calls_are_paged_by_cursor(cast: Cast, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboard.views.usage.PAGE_CALLS", 2)
    key = create_key(organization=cast.northwind).key
    for number in range(3):
        use(cast.northwind, key, seconds_ago=3 - number)
    client.force_login(cast.alice)
    first = client.get("/usage/calls/")
    assert "2 calls" in first.content.decode()
    second = client.get("/usage/calls/", {"mode": "live", "before": first.context["cursor"]})
    assert "1 call<" in second.content.decode()
    assert client.get("/usage/calls/?before=nonsense").status_code == 200


def test_another_organizations_calls_are_never_shown(cast: Cast, client: Client) -> None:
    use(cast.northwind, create_key(organization=cast.northwind, name="secret-name").key, calls=4321)
    client.force_login(cast.charlie)
    for address in ("/usage/", "/usage/calls/", "/quick-start/"):
        page = client.get(address).content.decode()
        assert "secret-name" not in page
        assert "4,321" not in page


def test_the_quick_start_ticks_itself(cast: Cast, client: Client) -> None:
    client.force_login(cast.alice)
    assert client.get("/quick-start/").content.decode().count("is-done") == 0
    use(cast.northwind, create_key(organization=cast.northwind).key)
    assert client.get("/quick-start/").content.decode().count("is-done") == 2


def test_staff_see_the_installation_and_nobody_else_does(cast: Cast, client: Client) -> None:
    use(cast.northwind, create_key(organization=cast.northwind).key, calls=900)
    client.force_login(cast.alice)
    assert client.get("/staff/").status_code == 404
    client.force_login(create_user("staff@farebox.example", is_staff=True))
    page = client.get("/staff/").content.decode()
    assert "Northwind Maps" in page
    assert "MRR" in page


def test_the_staff_page_costs_the_same_queries_for_many_customers(
    cast: Cast, client: Client, django_assert_max_num_queries
) -> None:  # type: ignore[no-untyped-def]
    client.force_login(create_user("staff@farebox.example", is_staff=True))
    with django_assert_max_num_queries(22):
        client.get("/staff/")


def test_the_forecast_says_where_the_period_ends(cast: Cast, client: Client) -> None:
    client.force_login(cast.alice)
    assert client.get("/usage/").context["outlook"] is None
    key, present = create_key(organization=cast.northwind).key, current_period(cast.northwind, at=now())
    Period.objects.filter(pk=present.pk).update(starts_at=now() - timedelta(days=9))
    for days in range(1, 4):
        use(cast.northwind, key, calls=100, seconds_ago=days * 86_400)
    page = client.get("/usage/")
    assert page.context["outlook"].usage.startswith("At today's pace about ")
    assert "This period would cost" in page.content.decode()
    assert page.context["chart"].has_expected
    assert client.get("/usage/?mode=test").context["outlook"] is None
    assert not client.get("/usage/?step=7").context["chart"].has_expected
