"""Calls that are not let through: problem documents, nothing charged, nothing seen by the API."""

import socket
import time
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from core.clock import now
from keys.hashing import make_key
from keys.services import revoke_key, rotate_key
from metering.models import RefusalCount
from metering.refusals import drain_refusals
from plans.suspension import suspend_organization
from tests.examples.processes import Answer, Api
from tests.factories import create_key, create_organization, expire_key
from tests.gateway.kit import SLUG, Customer, Process, Shop, wait_for


@pytest.fixture(autouse=True)
def _quiet(shop: Shop) -> None:
    shop.log()


def assert_refused(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """The problem document, checked for what all of them have."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), (
        answer.body
    )
    document: dict[str, Any] = answer.json
    assert (document["code"], document["status"]) == (code, status)
    assert document["title"]
    assert document["detail"]
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


def assert_nothing_happened(shop: Shop, customer: Customer) -> None:
    assert shop.log() == []
    assert customer.events() == []


def raw(url: str, data: bytes, *, within: float = 10) -> bytes:
    """What the gateway answers to these bytes until it closes or is silent."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=within) as link:
        link.sendall(data)
        answer = b""
        while b"\r\n\r\n" not in answer and (piece := link.recv(65_536)):
            answer += piece
        return answer


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_key"),
        ({"Authorization": "Basic abc"}, "missing_key"),
        ({"Authorization": "Bearer"}, "invalid_key"),
        ({"Authorization": "Bearer nonsense"}, "invalid_key"),
        ({"Authorization": "Bearer fb_live_" + "a" * 38}, "invalid_key"),  # wrong checksum
        ({"Authorization": f"Bearer {make_key('live')}"}, "invalid_key"),  # well-formed, unknown
        ({"Authorization": f"Bearer {make_key('owner')}"}, "invalid_key"),
        ({"X-API-Key": "é".encode().decode("latin-1")}, "invalid_key"),
    ],
)
def test_who_has_no_valid_key_is_refused(shop: Shop, headers: dict[str, str], code: str) -> None:
    answer = shop.gateway.api.get(f"/{SLUG}/echo", headers=headers)

    assert_refused(answer, 401, code)
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "ratelimit" not in answer.headers
    assert shop.log() == []


def test_revoked_key_is_refused_on_its_next_call_at_every_process(shop: Shop) -> None:
    customer = shop.customer()
    second = Process().wait_until_ready()
    try:
        assert [customer.call(via=via).status for via in (shop.gateway.api, second.api)] == [200, 200]

        revoke_key(key=customer.issued.key, by=None, at=now())

        for via in (shop.gateway.api, second.api):
            assert_refused(customer.call(via=via), 401, "invalid_key")
        assert len(customer.events()) == 2
    finally:
        assert second.stop() in (0, -15)


def test_a_key_that_was_rotated_at_once_is_refused_on_its_next_call(shop: Shop) -> None:
    customer = shop.customer()
    assert customer.call().status == 200

    rotate_key(key=customer.issued.key, grace=timedelta(0), by=None, at=now())

    assert_refused(customer.call(), 401, "key_expired")
    assert len(customer.events()) == 1


def test_expired_key_is_refused(shop: Shop) -> None:
    customer = shop.customer()
    expire_key(customer.issued.key, at=now() - timedelta(seconds=1))

    assert_refused(customer.call(), 401, "key_expired")
    assert_nothing_happened(shop, customer)


def test_key_that_expires_while_it_is_known_is_refused_from_that_moment(shop: Shop) -> None:
    customer = shop.customer()
    expire_key(customer.issued.key, at=now() + timedelta(seconds=1))
    assert customer.call().status == 200

    time.sleep(1)

    assert_refused(customer.call(), 401, "key_expired")


def test_key_calls_only_what_its_scopes_name(shop: Shop) -> None:
    customer = shop.customer(key={"scopes": (f"route:{shop.routes['/get'].public_id}",)})

    assert customer.call("/get").status == 200
    assert_refused(customer.call("/five"), 403, "out_of_scope")
    assert [event["status"] for event in customer.events()] == [200]


def test_route_of_a_larger_plan_is_refused(shop: Shop) -> None:
    customer = shop.customer()

    assert_refused(customer.call("/pro"), 403, "feature_not_in_plan")
    assert_nothing_happened(shop, customer)
    assert shop.customer(features=("all_endpoints",)).call("/pro").status == 200


def test_suspended_organization_is_refused_at_once(shop: Shop) -> None:
    customer = shop.customer()
    assert customer.call().status == 200

    suspend_organization(organization=customer.organization, reason="abuse", by=None, at=now())

    answer = customer.call()
    assert_refused(answer, 402, "suspended")
    assert answer.headers["x-should-retry"] == "false"
    assert len(customer.events()) == 1


def test_trial_that_is_over_is_refused(shop: Shop) -> None:
    organization = create_organization(plan="starter", at=now() - timedelta(days=60))
    customer = Customer(organization, create_key(organization=organization), shop.gateway.api)

    assert_refused(customer.call(), 402, "trial_over")
    assert_nothing_happened(shop, customer)


@pytest.mark.parametrize(("product", "path"), [("unknown", "/echo"), ("unknown", ""), ("", "")])
def test_unknown_product_or_path_costs_nothing(shop: Shop, product: str, path: str) -> None:
    customer = shop.customer()

    assert_refused(customer.call(path, product=product), 404, "not_found")
    assert_nothing_happened(shop, customer)


@pytest.mark.parametrize("path", ["/../down/x", "/a/%2e%2e/b", "/a%2f..%2fb", "/%252e%252e/b"])
def test_path_that_climbs_is_refused(shop: Shop, path: str) -> None:
    customer = shop.customer()

    assert_refused(customer.call(path), 400, "bad_path")
    assert_nothing_happened(shop, customer)


def test_wrong_method_learns_the_right_ones(shop: Shop) -> None:
    customer = shop.customer()

    answer = customer.call("/echo", "DELETE")

    assert_refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST, PUT"
    assert_nothing_happened(shop, customer)


def test_refusal_of_head_has_no_body(shop: Shop) -> None:
    answer = shop.gateway.api.get(f"/{SLUG}/echo", method="HEAD")

    assert (answer.status, answer.body) == (401, b"")


def test_oversized_headers_are_refused(shop: Shop) -> None:
    customer = shop.customer()

    assert_refused(customer.call(X_Large="x" * 33_000), 431, "headers_too_large")
    assert_refused(
        shop.gateway.api.get(f"/{SLUG}/echo", headers={f"X-H{n}": "1" for n in range(101)}),
        431,
        "headers_too_large",
    )
    assert_nothing_happened(shop, customer)


@pytest.mark.parametrize(
    "head",
    [
        "Host: a\r\nHost: b",
        "X-No-Host: 1",
        "Host: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked",
        "Host: a\r\nContent-Length: 3\r\nContent-Length: 4",
    ],
)
def test_ambiguous_heads_are_refused(shop: Shop, head: str) -> None:
    customer = shop.customer()

    answer = raw(
        shop.gateway.url,
        f"POST /{SLUG}/echo HTTP/1.1\r\nAuthorization: Bearer {customer.issued.clear}\r\n{head}\r\n\r\n".encode(),
    )

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert_nothing_happened(shop, customer)


def test_announced_body_over_the_limit_is_refused_before_it_is_counted(shop: Shop) -> None:
    customer = shop.customer()

    assert customer.call("/small", "POST", b"x" * 1000).status == 200
    shop.log()
    assert_refused(customer.call("/small", "POST", b"x" * 1001), 413, "body_too_large")
    assert shop.log() == []
    assert len(customer.events()) == 1


def test_chunked_body_over_the_limit_is_refused_and_not_billed(shop: Shop) -> None:
    customer = shop.customer()
    head = f"POST /{SLUG}/small HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {customer.issued.clear}\r\n"

    answer = raw(
        shop.gateway.url,
        f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"400\r\n" + b"x" * 1024 + b"\r\n0\r\n\r\n",
    )

    assert answer.startswith(b"HTTP/1.1 413 ")
    event = customer.only_event()
    assert (event["qty"], event["reason"], event["status"]) == (0, "client_error", 413)


def test_protocol_upgrades_are_refused(shop: Shop) -> None:
    answer = shop.customer().call(Connection="Upgrade", Upgrade="something/2")

    assert_refused(answer, 501, "upgrade_not_supported")


def test_rate_limit_lets_exactly_so_many_through(shop: Shop) -> None:
    customer = shop.customer(per_minute=3)

    answers = [customer.call() for _ in range(5)]

    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert_refused(answers[3], 429, "rate_limited")
    assert 0 < int(answers[3].headers["retry-after"]) <= 61
    assert answers[3].headers["ratelimit"].startswith('"minute";r=0;t=')
    assert answers[3].headers["x-ratelimit-remaining"] == "0"
    assert len(customer.events()) == 3


def test_limit_of_the_key_itself_is_the_smaller_one(shop: Shop) -> None:
    customer = shop.customer(key={"calls_per_minute": 1})

    assert customer.call().status == 200
    assert_refused(customer.call(), 429, "key_rate_limited")


def test_caller_may_call_again_when_retry_after_is_over(shop: Shop) -> None:
    customer = shop.customer(windows=((1, 2),))
    answers = [customer.call() for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]

    time.sleep(int(answers[2].headers["retry-after"]))

    assert customer.call().status == 200


def test_quota_lets_exactly_so_many_through_and_says_that_retrying_is_no_use(shop: Shop) -> None:
    customer = shop.customer(included=7)

    assert [customer.call("/five").status, customer.call().status, customer.call().status] == [200, 200, 200]
    answer = customer.call()

    assert_refused(answer, 429, "quota_exceeded")
    assert answer.headers["x-should-retry"] == "false"
    assert '"period";q=7' in answer.headers["ratelimit-policy"]
    assert sum(event["qty"] for event in customer.events()) == 7


def test_calls_that_were_not_billed_leave_the_quota_as_it_was(shop: Shop) -> None:
    customer = shop.customer(included=1)

    assert [customer.call("/status/500").status for _ in range(3)] == [500, 500, 500]
    assert customer.call().status == 200
    assert_refused(customer.call(), 429, "quota_exceeded")


def test_refusals_are_counted_for_the_customer(shop: Shop) -> None:
    customer = shop.customer(included=1)

    for path in ("/echo", "/echo", "/pro"):
        customer.call(path)

    def counted() -> dict[str, int]:
        drain_refusals()
        rows = RefusalCount.objects.filter(organization_id=customer.organization.pk)
        return {row.reason: row.count for row in rows}

    wait_for(lambda: len(counted()) == 2)
    assert counted() == {"quota_exceeded": 1, "feature_not_in_plan": 1}


def test_health_says_what_is_ready(shop: Shop) -> None:
    api: Api = shop.gateway.api
    assert api.get("/livez").json == {"status": "ok"}
    assert api.get("/readyz").json == {"status": "ok", "catalogue": True, "redis": True}
