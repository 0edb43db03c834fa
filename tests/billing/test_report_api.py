"""GET /api/usage/report and POST /api/usage/aggregate: what they say, page by page, and for whom."""

import csv
import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from redis import Redis

from core.clock import now, to_micros
from core.ids import event_id, new_nonce
from keys.services import issue_owner_key, revoke_owner_key
from metering.drf import forget_cached
from metering.events import Event
from metering.models import UsageTotal
from metering.services import ingest_history
from tests.billing.kit import Customer
from tests.factories import create_key, create_meter
from tests.metering.test_ingest import OWNER

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


class Books:
    """A customer whose period began ten days ago, with usage of a key on every day since."""

    def __init__(self) -> None:
        cache.clear()
        forget_cached()
        self.begun = now().replace(minute=0, second=0, microsecond=0) - timedelta(days=10)
        self.customer = Customer.start(at=self.begun)
        self.issued = create_key(organization=self.customer.organization, at=self.begun)
        self.client = Client()
        self.events = [
            self.event(
                self.begun + timedelta(days=day, hours=2 * half), str(day + 1), status=(200, 404)[half]
            )
            for day in range(10)
            for half in range(2)
        ]
        ingest_history(self.events, at=now())

    def event(self, at: Any, quantity: str, *, status: int = 200) -> Event:
        at_us = to_micros(at)
        return Event(
            id=event_id(at_us, new_nonce()), occurred_at_us=at_us, received_at_us=at_us, mode="live", door="gateway",
            organization_id=self.customer.organization.pk, meter_id=create_meter().pk, status=status,
            period_id=self.customer.period().pk, quantity=Decimal(quantity), api_key_id=self.issued.key.pk,
        )  # fmt: skip

    def get(self, query: str = "", *, key: str = "", accept: str = "application/json") -> Any:
        """With the owner's key, for this customer; or with the key given."""
        if not key:
            query = f"organization={self.customer.organization.public_id}&{query}".rstrip("&")
        headers = {"Authorization": f"Bearer {key or OWNER}", "Accept": accept}
        return self.client.get(f"/api/usage/report?{query}", headers=headers)

    def report(self, query: str = "", **how: str) -> dict[str, Any]:
        answer = self.get(query, **how)
        assert answer.status_code == 200, answer.content
        body: dict[str, Any] = answer.json()
        return body

    def aggregate(self, **changes: Any) -> dict[str, Any]:
        body = {
            "organization": self.customer.organization.public_id, "start": self.begun.isoformat(), "end": now().isoformat(),
        } | changes  # fmt: skip
        answer = self.client.post(
            "/api/usage/aggregate", body, content_type="application/json", headers={"Authorization": f"Bearer {OWNER}"}
        )  # fmt: skip
        assert answer.status_code == 200, answer.content
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture
def books(usage_redis: Redis) -> Books:
    return Books()


def test_the_period_so_far_with_cost_projection_and_trend(books: Books) -> None:
    body = books.report()
    (row,) = body["rows"]
    assert (row["meter"], row["quantity"], row["calls"]) == ("api_calls", "110", 20)
    assert body["cost"]["total"] == "$49.00"
    assert [line["kind"] for line in body["cost"]["lines"]] == ["fee", "usage"]
    assert (
        body["projection"]["low_minor"]
        <= body["projection"]["expected_minor"]
        <= body["projection"]["high_minor"]
    )
    (total,) = body["totals"]
    assert (total["quantity"], total["quantity_before"], total["change_percent"]) == ("110", "0", None)


def test_trend_is_against_as_much_time_before(books: Books) -> None:
    start = books.begun + timedelta(days=5)
    body = books.report(f"start={_url(start)}&end={_url(books.begun + timedelta(days=10))}")
    (total,) = body["totals"]
    assert (total["quantity"], total["quantity_before"]) == ("80", "30")
    assert total["change_percent"] == "166.7"


@pytest.mark.parametrize(
    ("group_by", "groups"),
    [("day", 10), ("hour", 20), ("key", 1), ("route", 1), ("status", 2), ("dimension", 1), ("meter", 1), ("day,status", 20)],
)  # fmt: skip
def test_groups_add_up(books: Books, group_by: str, groups: int) -> None:
    rows = books.report(f"group_by={group_by}")["rows"]
    assert len(rows) >= groups if group_by == "day" else len(rows) == groups
    assert sum(Decimal(row["quantity"]) for row in rows) == 110
    assert sum(row["calls"] for row in rows) == 20
    assert {name for row in rows for name in row} >= set(group_by.split(","))


def test_pages_hold_every_group_once(books: Books) -> None:
    whole, found, cursor = books.report("group_by=hour,status")["rows"], [], ""
    while True:
        body = books.report(
            f"group_by=hour,status&limit=3&cursor={cursor}" if cursor else "group_by=hour,status&limit=3"
        )
        found += body["rows"]
        cursor = body["next"] or ""
        if not cursor:
            break
    assert found == whole


@pytest.mark.parametrize(
    ("query", "quantity"),
    [
        ("status=2xx", 55),
        ("status=4xx", 55),
        ("meter=api_calls", 110),
        ("mode=test", 0),
        ("dimension=region%3Deu", 0),
    ],
)
def test_filters(books: Books, query: str, quantity: int) -> None:
    assert sum(Decimal(row["quantity"]) for row in books.report(query)["rows"]) == quantity
    key = books.issued.key.public_id
    assert len(books.report(f"key={key}&group_by=key")["rows"]) == 1


@pytest.mark.parametrize("how", [{"accept": "text/csv"}, {"query": "&format=csv"}])
def test_csv(books: Books, how: dict[str, str]) -> None:
    answer = books.get("group_by=day,key" + how.get("query", ""), accept=how.get("accept", "*/*"))
    assert answer["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(StringIO(answer.content.decode())))
    assert sum(Decimal(row["quantity"]) for row in rows) == 110
    assert rows[0]["key"] == books.issued.key.public_id


@pytest.mark.parametrize(
    "query",
    ["period=never", "period=current&start=2026-01-01T00:00Z", "end=2026-01-01T00:00Z", "start=2020-01-01T00:00Z",
     "start=0001-01-01T00:00Z&end=0001-06-01T00:00Z", "start=9999-12-30T00:00Z&end=9999-12-31T23:30Z",
     "start=x", "group_by=day,weather", "meter=unknown", "key=key_foreign", "route=/x", "status=abc", "status=404", "status=2xx,4x4", "status=6xx", "timezone=Mars/Base",
     "timezone=../../etc/passwd", "limit=0", "limit=5001", "cursor=xx", "cursor=WzFd&group_by=day", "weather=1"],
)  # fmt: skip
def test_what_is_wrong_is_named(books: Books, query: str) -> None:
    answer = books.get(query)
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    assert answer.json()["errors"]


def test_a_single_status_is_told_to_ask_for_its_class(books: Books) -> None:
    assert "write 4xx" in json.dumps(books.get("status=404").json()["errors"])


def test_a_cursor_of_other_types_is_refused(books: Books) -> None:
    assert books.get("group_by=day&cursor=WyJ4IiwgInkiXQ").status_code == 400


@pytest.mark.django_db(transaction=True)
def test_owner_keys_see_any_customer_and_customers_only_themselves(books: Books) -> None:
    stranger = Customer.start("Contoso", at=books.begun)
    own, key = books.customer.organization.public_id, books.issued.clear
    assert books.report(f"organization={own}", key=OWNER)["organization"] == own
    assert books.report(f"organization={own}", key=key) == books.report("", key=key)
    assert books.get(f"organization={stranger.organization.public_id}", key=key).status_code == 404
    assert books.report(f"organization={stranger.organization.public_id}", key=OWNER)["rows"] == []
    assert books.get(key=OWNER).status_code == 400
    assert books.get(key="nobody").status_code == 401


@pytest.mark.django_db(transaction=True)
def test_an_owner_key_that_was_issued_sees_any_customer(books: Books) -> None:
    key, clear = issue_owner_key(name="crm", at=now())
    own = books.customer.organization.public_id
    assert books.report(f"organization={own}", key=clear)["organization"] == own
    assert books.get(key=clear).status_code == 400
    revoke_owner_key(key=key, at=now())
    assert books.get(f"organization={own}", key=clear).status_code == 401


def test_the_number_of_queries_does_not_grow(
    books: Books, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    books.report()
    with django_assert_max_num_queries(40):
        books.report("group_by=hour,key,route,status")


def test_sound_totals_have_no_differences(books: Books) -> None:
    body = books.aggregate()
    assert (body["differences"], body["repaired"]) == ([], False)


def test_wrong_totals_are_named_and_repaired_once(books: Books) -> None:
    broken = UsageTotal.objects.filter(organization_id=books.customer.organization.pk).earliest("hour")
    UsageTotal.objects.filter(pk=broken.pk).update(sum=7)
    (found,) = books.aggregate()["differences"]
    assert (found["stored"], found["counted"], found["meter"]) == ("7", "1", "api_calls")
    assert books.report()["rows"][0]["quantity"] == "116"
    body = books.aggregate(repair=True)
    assert (len(body["differences"]), body["repaired"]) == (1, True)
    assert books.aggregate(repair=True) == books.aggregate() | {"end": books.aggregate()["end"]}
    assert books.report()["rows"][0]["quantity"] == "110"


def _url(moment: Any) -> str:
    return str(moment.isoformat()).replace("+00:00", "Z")
