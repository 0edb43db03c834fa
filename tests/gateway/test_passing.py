"""What an admitted call is, on both sides, over real HTTP."""

import re
from decimal import Decimal

import pytest

from core.clock import now
from metering.drain import drain_all
from metering.models import UsageEvent
from tests.gateway.kit import SLUG, Shop


def test_first_call_is_answered_with_what_is_left(shop: Shop) -> None:
    answer = shop.customer(per_minute=10).call("/echo?q=Oslo")

    assert answer.status == 200
    assert answer.json["target"] == "/echo?q=Oslo"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-upstream"] == "yes"
    assert answer.headers["ratelimit-policy"].startswith('"minute";q=10;w=60')
    assert answer.headers["ratelimit"].startswith('"minute";r=9;t=')
    assert answer.headers["x-ratelimit-limit"] == "10"
    assert answer.headers["x-ratelimit-remaining"] == "9"
    assert 0 < int(answer.headers["x-ratelimit-reset"]) <= 61  # the window and a sub-bucket
    assert re.fullmatch(r"req_\w{16,}", answer.headers["x-request-id"])


def test_upstream_learns_who_calls_and_nothing_that_it_must_not(shop: Shop) -> None:
    customer = shop.customer()

    answer = customer.call(
        X_Farebox_Organization="org_forged", X_Farebox_Role="admin", X_Token="forged", X_Forwarded_For="1.2.3.4",
        Connection="X-Mine", X_Mine="1", Accept_Language="pt", X_API_Key=customer.issued.clear,
    )  # fmt: skip

    sent = [(name.lower(), value) for name, value in answer.json["headers"]]
    headers = dict(sent)
    assert len(headers) == len(sent), "a header was sent twice"
    assert headers["x-farebox-organization"] == customer.organization.public_id
    assert headers["x-farebox-key-id"] == customer.issued.key.public_id
    assert headers["x-farebox-mode"] == "live"
    assert headers["x-farebox-plan"].endswith("-gateway")
    assert headers["x-token"] == "owner's"
    assert headers["x-request-id"] == answer.headers["x-request-id"]
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-forwarded-host"] == shop.gateway.url.removeprefix("http://")
    assert headers["host"] == shop.upstream.url.removeprefix("http://")
    assert headers["accept-language"] == "pt"
    assert not headers.keys() & {"authorization", "x-api-key", "x-farebox-role", "x-mine", "user-agent"}
    assert customer.issued.clear not in str(sent)


def test_key_may_come_as_x_api_key(shop: Shop) -> None:
    customer = shop.customer()

    answer = shop.gateway.api.get(f"/{SLUG}/echo", headers={"X-API-Key": customer.issued.clear})

    assert answer.status == 200


def test_path_and_query_reach_the_api_as_they_came(shop: Shop) -> None:
    target = "/echo/a%2Fb%20c;v=1/%C3%A9//x+y?q=%26%3D&q=2&empty=&%5B%5D=1"

    assert shop.customer().call(target).json["target"] == target


@pytest.mark.parametrize("status", [200, 201, 301, 302])
def test_what_is_good_is_billed_and_redirects_are_not_followed(shop: Shop, status: int) -> None:
    customer = shop.customer()

    answer = customer.call(f"/status/{status}")

    assert (answer.status, answer.body) == (status, str(status).encode())
    assert answer.headers["location"] == "/elsewhere"
    assert (customer.only_event()["qty"], customer.only_event()["status"]) == (1, status)


@pytest.mark.parametrize("path", ["/status/204", "/status/304", "/empty"])
def test_answers_without_a_body_are_billed_before_their_head_leaves(shop: Shop, path: str) -> None:
    customer = shop.customer()

    answer = customer.call(path)

    assert (answer.status, answer.body) == (int(path[-3:]) if path[-1].isdigit() else 200, b"")
    assert [event["qty"] for event in customer.events()] == [1]


def test_length_of_a_body_that_does_not_come_is_not_announced(shop: Shop) -> None:
    customer = shop.customer()

    answer = customer.call("/not-modified")

    assert (answer.status, answer.headers["etag"]) == (304, '"1"')
    assert "content-length" not in answer.headers
    assert customer.only_event()["qty"] == 1


def test_answer_says_what_the_call_cost(shop: Shop) -> None:
    customer = shop.customer()

    units = [customer.call(path).headers["farebox-units"] for path in ("/echo", "/five", "/status/404")]

    assert units == ["1", "5", "0"]


def test_head_is_get_without_its_body(shop: Shop) -> None:
    customer = shop.customer()

    answer = customer.call("/get", "HEAD")

    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 100
    assert customer.only_event()["qty"] == 1


def test_chunked_answer_comes_whole(shop: Shop) -> None:
    assert shop.customer().call("/chunked").body == b"one,two,three"


def test_event_stream_comes_whole_and_is_billed_once(shop: Shop) -> None:
    customer = shop.customer()

    answer = customer.call("/stream/0.05")

    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.body == b"data: one\n\ndata: two\n\ndata: [DONE]\n\n"
    assert customer.only_event()["qty"] == 1


def test_event_says_everything_about_its_call(shop: Shop) -> None:
    customer = shop.customer()

    answer = customer.call("/five", "POST", b"12345")

    event = customer.only_event()
    route = shop.routes["/five"]
    assert answer.status == 200
    assert {name: event[name] for name in ("mode", "meter", "qty", "key", "product", "route", "status", "door")} == {
        "mode": "live", "meter": str(route.meter_id), "qty": 5, "key": str(customer.issued.key.pk),
        "product": str(shop.product.pk), "route": str(route.pk), "status": 200, "door": "gateway",
    }  # fmt: skip
    assert (event["in"], event["out"]) == (5, len(answer.body))
    assert event["rid"] == answer.headers["x-request-id"]
    assert not event.get("reason")
    assert 0 < event["dur"] < 10_000_000
    assert abs(event["at"] / 1e6 - now().timestamp()) < 60


def test_test_key_calls_the_api_in_test_mode(shop: Shop) -> None:
    customer = shop.customer(key={"mode": "test"})

    answer = customer.call()

    assert dict(answer.json["headers"])["X-Farebox-Mode"] == "test"
    assert customer.only_event()["mode"] == "test"


def test_ledger_holds_exactly_what_was_billable(shop: Shop) -> None:
    customer = shop.customer()
    for path in ("/echo", "/five", "/status/500", "/status/404", "/status/404/billed", "/chunked"):
        customer.call(path)
    customer.call("/nothing", product="unknown")
    customer.call(key="fb_live_nonsense")

    drain_all(at=now(), budget_seconds=10)

    rows = UsageEvent.objects.filter(organization_id=customer.organization.pk)
    assert sorted((row.status, row.quantity, row.reason) for row in rows) == [
        (200, Decimal(1), ""), (200, Decimal(1), ""), (200, Decimal(5), ""), (404, Decimal(0), "client_error"),
        (404, Decimal(1), ""), (500, Decimal(0), "upstream_error"),
    ]  # fmt: skip
    assert customer.events() == []
