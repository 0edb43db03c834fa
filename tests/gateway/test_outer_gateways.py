"""Real servers before an API, with our configurations: who may pass, what is counted, what reaches client and API."""

import http.client
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from core.clock import now
from plans.suspension import suspend_organization
from tests.examples.processes import Answer, Api
from tests.gateway.kit import Customer, Process, Shop, wait_for
from tests.gateway.outer import TRUSTED, running
from tests.gateway.test_refusals import assert_refused, raw

REPORTING = ("nginx", "envoy")
FORGED = {
    "X-Farebox-Organization": "org_forged", "X-Farebox-Plan": "forged", "X-Farebox-Key-Id": "forged",
    "X-Farebox-Mode": "test", "X-Farebox-Reservation": "forged", "X-Farebox-Status": "500", "X-Request-Id": "forged",
    "X-Original-URI": "/free", "X-Original-Method": "OPTIONS", "X-Forwarded-Uri": "/free", "X-Forwarded-Method": "OPTIONS",
}  # fmt: skip


@dataclass
class Outer:
    """A server before the API."""

    name: str
    api: Api
    folder: Path

    def call(self, customer: Customer, path: str = "/echo", method: str = "GET", **more: Any) -> Answer:
        headers = {"Authorization": f"Bearer {customer.issued.clear}"} | more.pop("headers", {})
        return self.api.send(method, path, headers=headers, **more)


@pytest.fixture(scope="module")
def gate(shop: Shop) -> Iterator[Process]:
    process = Process(**TRUSTED, FAREBOX_FORWARD_AUTH_REPORT_SECONDS="5").wait_until_ready()
    try:
        yield process
    finally:
        process.stop()


@pytest.fixture(scope="module", params=["nginx", "caddy", "envoy"])
def outer(
    request: pytest.FixtureRequest, tmp_path_factory: Any, shop: Shop, gate: Process
) -> Iterator[Outer]:
    folder = tmp_path_factory.mktemp(request.param)
    with running(request.param, folder, shop, gate) as api:
        yield Outer(request.param, api, folder)


def test_a_call_passes_and_is_metered_once(shop: Shop, outer: Outer) -> None:
    customer = shop.customer(per_minute=10)
    shop.log()

    answer = outer.call(customer, "/echo?a=1", "POST", body=b"four")

    assert answer.status == 200
    assert answer.headers["ratelimit"] == '"minute";r=9;t=60'
    assert answer.headers["x-ratelimit-remaining"] == "9"
    assert answer.headers["x-request-id"].startswith("req_")
    event = customer.only_event()
    assert (event["qty"], event["door"], event["reason"], event["rid"]) == (
        1,
        "forward",
        "",
        answer.headers["x-request-id"],
    )
    assert event.get("status") == (200 if outer.name in REPORTING else None)
    if outer.name == "nginx":
        assert (event["in"], event["out"]) == (4, len(answer.body))
        assert event["dur"] < 10_000_000
    assert shop.log() == ["echo"]
    got = answer.json
    assert (got["method"], got["target"], got["size"]) == ("POST", "/echo?a=1", 4)
    sent = {name.lower(): value for name, value in got["headers"]}
    assert sent["x-farebox-organization"] == customer.organization.public_id
    assert sent["x-farebox-key-id"] == customer.issued.key.public_id
    assert (sent["x-farebox-mode"], sent["x-request-id"]) == ("live", answer.headers["x-request-id"])
    assert customer.issued.clear not in str(got)
    assert not {"authorization", "x-api-key", "x-farebox-reservation"} & {
        name for name, value in sent.items() if value
    }


def test_neither_the_address_nor_the_caller_can_be_forged(shop: Shop, outer: Outer) -> None:
    customer = shop.customer(key={"scopes": (f"route:{shop.routes['/five'].public_id}",)})

    passed = outer.call(customer, "/five", headers=FORGED)
    refused = outer.call(
        customer, "/echo", headers=FORGED | {"X-Original-URI": "/five", "X-Forwarded-Uri": "/five"}
    )

    assert passed.status == 200
    sent = {name.lower(): value for name, value in passed.json["headers"]}
    assert sent["x-farebox-organization"] == customer.organization.public_id
    assert sent["x-farebox-mode"] == "live"
    assert not {"forged", "org_forged"} & {
        value for name, value in sent.items() if name.startswith("x-farebox") or name == "x-request-id"
    }
    assert_refused(refused, 403, "out_of_scope")
    assert customer.only_event()["qty"] == 5


def test_refusals_reach_the_client_as_they_are(shop: Shop, outer: Outer) -> None:
    customer, closed = shop.customer(per_minute=1), shop.customer()
    assert outer.call(customer).status == 200
    wait_for(customer.events)
    suspend_organization(organization=closed.organization, reason="abuse", by=None, at=now())
    shop.log()

    limited = outer.call(customer, method="POST", body=b"x")
    assert_refused(limited, 429, "rate_limited")
    assert 0 < int(limited.headers["retry-after"]) <= 61
    assert limited.headers["x-ratelimit-remaining"] == "0"
    suspended = outer.call(closed)
    assert_refused(suspended, 402, "suspended")
    assert suspended.headers["x-should-retry"] == "false"
    unknown = outer.api.get("/echo")
    assert_refused(unknown, 401, "missing_key")
    assert unknown.headers["www-authenticate"].startswith("Bearer")
    assert_refused(outer.call(customer, "/get", "DELETE"), 405, "method_not_allowed")
    assert outer.call(closed, method="HEAD").status == 402
    assert_refused(outer.call(shop.customer(), "/pro"), 403, "feature_not_in_plan")
    assert shop.log() == []
    assert len(customer.events()) == 1


def test_the_apis_own_errors_are_not_taken_for_refusals(shop: Shop, outer: Outer) -> None:
    customer = shop.customer()
    for status in (401, 403, 500):
        answer = outer.call(customer, f"/status/{status}")
        assert (answer.status, answer.body) == (status, str(status).encode())
    wait_for(lambda: len(customer.events()) == 3)
    reasons = sorted(event["reason"] for event in customer.events())
    expected = ["client_error", "client_error", "upstream_error"] if outer.name in REPORTING else ["", "", ""]
    assert reasons == expected


def test_the_apis_words_about_limits_are_replaced(shop: Shop, outer: Outer) -> None:
    """The API of the tests answers with a forged RateLimit and a forged request id."""
    customer = shop.customer()
    host, key = urlsplit(outer.api.url).netloc, customer.issued.clear
    request = f"GET /echo HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {key}\r\nConnection: close\r\n\r\n"
    head = raw(outer.api.url, request.encode()).partition(b"\r\n\r\n")[0].lower()
    assert (head.count(b"\r\nratelimit:"), head.count(b"\r\nx-request-id:")) == (1, 1)
    assert b"forged" not in head


def test_two_keys_are_one_too_many(shop: Shop, outer: Outer) -> None:
    customer = shop.customer()
    host, key = urlsplit(outer.api.url).netloc, customer.issued.clear
    keys = f"X-API-Key: {key}\r\nX-API-Key: {key}\r\n"
    answer = raw(outer.api.url, f"GET /echo HTTP/1.1\r\nHost: {host}\r\n{keys}\r\n".encode())
    status = int(answer.split(b" ")[1])
    # Envoy makes one of both, which is none of ours.
    assert status == (401 if outer.name == "envoy" else 400), answer
    assert customer.events() == []


def test_a_quota_is_filled_exactly(shop: Shop, outer: Outer) -> None:
    customer = shop.customer(included=Decimal(3))
    assert [outer.call(customer).status for _ in range(5)] == [200, 200, 200, 429, 429]
    wait_for(lambda: len(customer.events()) == 3)


def test_nothing_of_ours_is_open_to_clients(shop: Shop, outer: Outer) -> None:
    customer = shop.customer()
    for path in ("/_farebox/auth", "/_farebox/report", "/_farebox/refused", "/_farebox/away"):
        answer = outer.api.get(path)
        assert answer.status in (401, 404)
        assert "x-farebox-organization" not in answer.headers
    assert outer.call(customer).status == 200
    assert not [name for name in outer.call(customer).headers if name.startswith("x-farebox")]


def test_an_api_that_is_away_is_not_billed_where_the_end_is_reported(shop: Shop, outer: Outer) -> None:
    customer = shop.customer()
    answer = outer.call(customer, "/hang-up")
    assert answer.status in (502, 503)
    event = customer.only_event()
    assert (event["qty"], event["reason"]) == ((0, "upstream_error") if outer.name in REPORTING else (1, ""))


def test_a_gateway_that_is_away_lets_nothing_pass(shop: Shop, outer: Outer, tmp_path: Path) -> None:
    customer = shop.customer()
    gone = Process(**TRUSTED).wait_until_ready()
    gone.stop()
    shop.log()
    with running(outer.name, tmp_path, shop, gone) as api:
        answer = Outer(outer.name, api, tmp_path).call(customer)
        assert answer.status in (502, 503)
        if outer.name == "nginx":
            assert (answer.json["code"], answer.headers["retry-after"]) == ("metering_unavailable", "5")
    assert shop.log() == []


def test_the_log_of_nginx_has_the_status_of_the_call(shop: Shop, gate: Process, tmp_path: Path) -> None:
    customer, log = shop.customer(), tmp_path / "access.log"
    with running("nginx", tmp_path, shop, gate) as api:
        Outer("nginx", api, tmp_path).call(customer, "/status/404?mark=logged")
        wait_for(lambda: "mark=logged" in log.read_text())
    (line,) = log.read_text().splitlines()
    assert 'HTTP/1.1" 404 req_' in line
    assert customer.organization.public_id in line
    assert customer.issued.clear not in line
    assert "[warn]" not in (tmp_path / "error.log").read_text()


def test_a_client_that_leaves_nginx_is_reported_too(shop: Shop, gate: Process, tmp_path: Path) -> None:
    """Before there is an answer it is not billed; in the middle of one, what was delivered is."""
    early, late = shop.customer(), shop.customer()
    with running("nginx", tmp_path, shop, gate) as api:
        for customer, path, first in ((early, "/sleep/3", False), (late, "/endless", True)):
            connection = http.client.HTTPConnection(urlsplit(api.url).netloc, timeout=10)
            connection.request("GET", path, headers={"Authorization": f"Bearer {customer.issued.clear}"})
            if first:
                assert connection.getresponse().read(4) == b"more"
            else:
                time.sleep(0.5)
            connection.close()
        reasons = [wait_for(customer.events, within=8)[0]["reason"] for customer in (early, late)]
    assert reasons == ["client_gone", ""]
    assert [customer.only_event().get("status") for customer in (early, late)] == [None, 200]
    assert '"GET /sleep/3 HTTP/1.1" 499 ' in (tmp_path / "access.log").read_text()
