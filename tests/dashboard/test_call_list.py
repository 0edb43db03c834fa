"""The list of calls narrowed, searched and exported; the usage page's range of days."""

import csv
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.test import Client

from accounts.models import Role
from core.clock import now
from metering.services import ingest_history
from plans.models import Meter
from tests.billing.kit import Customer
from tests.billing.test_explain import report
from tests.factories import (
    create_key,
    create_membership,
    create_meter,
    create_product,
    create_route,
    create_user,
)

pytestmark = pytest.mark.django_db


class Shop:
    """Ten days of calls: two keys, two routes, good and failed ones."""

    def __init__(self, client: Client) -> None:
        self.begun = now() - timedelta(days=10)
        self.customer = Customer.start(at=self.begun)
        self.owner = create_user("owner@acme.example")
        create_membership(organization=self.customer.organization, user=self.owner, role=Role.OWNER)
        client.force_login(self.owner)
        product, meter = create_product(), create_meter()
        self.keys = [
            create_key(organization=self.customer.organization, name=name).key for name in ("one", "two")
        ]
        self.routes = [create_route(product, path) for path in ("/v1/search", "/v1/reverse")]
        events = []
        for number in range(20):
            failed = number % 4 == 3
            event = report(
                self.customer,
                meter,
                self.begun + timedelta(hours=12 * number, minutes=1),
                "0" if failed else "1",
            )
            events.append(
                replace(
                    event, door="gateway", request_id=f"req_{number:022d}", status=502 if failed else 200,
                    reason="upstream_error" if failed else "", api_key_id=self.keys[number % 2].pk,
                    route_id=self.routes[number // 10].pk,
                )
            )  # fmt: skip
        ingest_history(events, at=now())
        self.client = client

    def table(self, query: str) -> list[dict[str, str]]:
        answer: Any = self.client.get(f"/usage/calls/?format=csv&{query}")
        assert answer.status_code == 200
        return list(csv.DictReader(StringIO(b"".join(answer.streaming_content).decode())))

    def page(self, query: str) -> Any:
        answer = self.client.get(f"/usage/calls/?{query}")
        assert answer.status_code == 200
        return answer


@pytest.fixture
def shop(client: Client) -> Shop:
    return Shop(client)


def day(moment: datetime) -> str:
    return moment.date().isoformat()


def test_filters_narrow_page_and_file_alike(shop: Shop) -> None:
    third = shop.begun + timedelta(days=3)
    for query, count in [
        ("", 20), ("mode=test", 0), (f"key={shop.keys[0].public_id}", 10), ("status=5", 5), ("status=2", 15),
        ("reason=billed", 15), ("reason=unbilled", 5), ("reason=upstream_error", 5), ("reason=expired", 0),
        ("route=/places/v1/search", 10), (f"route=/places/v1/search&status=5&key={shop.keys[1].public_id}", 2),
        (f"from={day(third)}&to={day(third)}", 2), (f"from={day(now() + timedelta(days=1))}", 0),
    ]:  # fmt: skip
        assert len(shop.table(query)) == len(shop.page(query).context["calls"]) == count, query


@pytest.mark.parametrize(
    "query", ["from=x&to=2026-99-99&key=key_foreign&route=/x&status=9&reason=love", "to=9999-12-31"]
)
def test_what_is_unknown_narrows_nothing(shop: Shop, query: str) -> None:
    assert len(shop.table(query)) == 20


def test_a_strangers_key_shows_nothing_of_it(shop: Shop) -> None:
    stranger = Customer.start("Contoso", at=shop.begun)
    foreign = create_key(organization=stranger.organization, name="foreign").key
    answer = shop.page(f"key={foreign.public_id}")
    assert foreign.public_id not in answer.content.decode()
    assert len(answer.context["calls"]) == 20


def test_pages_keep_what_was_asked(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboard.views.usage.PAGE_CALLS", 4)
    seen, address = [], "/usage/calls/?reason=billed"
    while address:
        answer = shop.client.get(address)
        seen += [row.event.request_id for row in answer.context["calls"]]
        assert {row.event.reason for row in answer.context["calls"]} == {""}
        older = answer.context["older_url"]
        address = f"/usage/calls/{older}" if older else ""
    assert len(seen) == len(set(seen)) == 15


def test_an_empty_list_says_why(shop: Shop) -> None:
    assert "No call matches" in shop.page("reason=expired").content.decode()
    assert "No calls here" in shop.page("mode=test").content.decode()
    assert "UTC" in shop.page("").content.decode()


def test_a_row_opens_its_call(shop: Shop) -> None:
    row = shop.page("").context["calls"][0]
    assert f"/usage/find/?find={row.event.id}" in shop.page("").content.decode()
    found = shop.client.get(f"/usage/find/?find={row.event.request_id}").content.decode()
    assert row.event.request_id in found


def test_a_replay_names_the_call_that_was_billed(shop: Shop) -> None:
    billed = shop.page("reason=billed").context["calls"][0].event
    again = report(shop.customer, Meter.objects.get(), shop.begun + timedelta(hours=1), "0")
    again = replace(
        again, door="gateway", request_id="req_again", status=200, reason="replayed", properties={"replay_of": str(billed.id)}
    )  # fmt: skip
    ingest_history([again], at=now())
    assert [row.event.request_id for row in shop.page("reason=replayed").context["calls"]] == ["req_again"]
    assert "answered again" in shop.page("reason=replayed").content.decode()
    found = shop.client.get("/usage/find/?find=req_again").content.decode()
    assert f"?find={billed.id}" in found


def test_the_number_of_queries_does_not_grow(
    shop: Shop, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    with django_assert_max_num_queries(20):
        shop.page("reason=billed")


def test_the_usage_page_shows_the_days_that_were_asked_for(shop: Shop) -> None:
    first, last = shop.begun + timedelta(days=2), shop.begun + timedelta(days=4)
    for query, bars in [
        ("step=7", 7),
        ("step=30", 30),
        ("step=90", 90),
        (f"step=custom&from={day(first)}&to={day(last)}", 3),
    ]:
        answer = shop.client.get(f"/usage/?{query}")
        assert len(answer.context["chart"].bars) == bars
    assert answer.context["choices"].query["from"] == day(first)
    assert f"from={day(first)}" in answer.content.decode().replace("&amp;", "&")


@pytest.mark.parametrize(
    "query",
    ["step=custom", "step=custom&from=2026-02-02&to=2026-02-01", "step=custom&from=x&to=y", "step=previous"],
)
def test_odd_ranges_show_the_period(shop: Shop, query: str) -> None:
    chart = shop.client.get(f"/usage/?{query}").context["chart"]
    assert sum(Decimal(value) for bar in chart.bars for value in bar.values) == 15
