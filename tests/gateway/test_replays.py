"""Retries with an `Idempotency-Key` through two gateways as they are deployed: carried out once, billed once."""

import http.client
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from django.conf import settings

from core.clock import now
from core.redis import usage_redis
from core.redis_layout import mark_key, refusals_prefix, reservations_key
from gateway.replays.place import Place
from gateway.replays.shelf import PREFIX
from keys.services import revoke_key
from plans.models import OverrideKind, Route
from plans.overrides import Grant, set_override
from tests.examples.processes import Answer
from tests.factories import create_key, create_product, create_route
from tests.gateway.kit import Customer, Process, Shop, wait_for
from tests.gateway.test_limits import customer_with, on
from tests.plans.price_kit import component, put_on, version_of

_number = count(1)
SLUG = "once"


@dataclass
class Once:
    """A product whose routes keep answers, sold by two gateways."""

    shop: Shop
    second: Process
    route: Route

    def customer(self, **plan: Any) -> Customer:
        self.shop.log()
        return self.shop.customer(**plan)

    def place(self, customer: Customer, key: str) -> Place:
        organization = customer.organization
        return Place.of(
            organization.shard, organization.pk, mode="live", route=self.route.public_id, key=key.encode()
        )

    def mark(self, customer: Customer, key: str) -> str:
        place = self.place(customer, key)
        return mark_key(place.shard, place.org_id, place.name)


@pytest.fixture(scope="module")
def once(shop: Shop, django_db_blocker: Any) -> Iterator[Once]:
    with django_db_blocker.unblock():
        product = create_product(SLUG, upstream_url=shop.upstream.url)
        create_route(product, "/sleep/*", methods=("POST",), timeout_ms=300, position=0)
        route = create_route(product, "/*", methods=("GET", "POST", "PUT", "DELETE"), position=1)
        Route.objects.filter(product=product).update(replay_seconds=600)
        customer = shop.customer()
        second = Process(FAREBOX_REPLAY_ANSWER_BYTES="20000")
        try:
            second.wait_until_ready()
            wait_for(lambda: customer.call(product=SLUG).status == 200)
            yield Once(shop, second, route)
        finally:
            second.stop()


def a_key() -> str:
    return f"order-{next(_number)}"


def send(
    customer: Customer, text: str, path: str = "/echo", body: bytes | None = b"{}", method: str = "POST", **more: Any
) -> Answer:  # fmt: skip
    return customer.call(path, method, body, product=SLUG, Idempotency_Key=text, **more)


def reasons(customer: Customer, calls: int) -> list[str]:
    """Why each row is not billed, in order; '' is billed."""
    wait_for(lambda: len(customer.events()) >= calls)
    return [event.get("reason", "") for event in customer.events()]


def assert_nothing_open(once: Once, customer: Customer) -> None:
    with usage_redis() as client:
        key = reservations_key(customer.organization.shard, customer.organization.pk)
        wait_for(lambda: client.zcard(key) == 0)


def test_a_retry_gets_the_answer_and_is_free(once: Once) -> None:
    customer, key = once.customer(), a_key()
    first = send(customer, key)
    again = send(customer, key, via=once.second.api)
    assert (first.status, again.status) == (200, 200)
    assert again.body == first.body
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert (first.headers["farebox-units"], again.headers["farebox-units"]) == ("1", "0")
    assert again.headers["x-upstream"] == "yes"
    assert again.headers["content-type"] == "application/json"
    assert "set-cookie" in first.headers
    assert "set-cookie" not in again.headers
    assert first.headers["x-request-id"] != again.headers["x-request-id"]
    assert once.shop.log() == ["echo"]
    assert reasons(customer, 2) == ["", "replayed"]
    billed, replayed = customer.events()
    assert replayed["props"] == {"replay_of": billed["id"]}
    assert (replayed["qty"], replayed["status"]) == (0, 200)
    assert_nothing_open(once, customer)


def test_a_replay_counts_for_the_rate_limit(once: Once) -> None:
    customer, key = once.customer(per_minute=3), a_key()
    left = [send(customer, key).headers["x-ratelimit-remaining"] for _ in range(3)]
    assert left == ["2", "1", "0"]
    refused = send(customer, key)
    assert (refused.status, refused.json["code"]) == (429, "rate_limited")
    assert reasons(customer, 3) == ["", "replayed", "replayed"]


def test_a_replay_needs_no_quota(once: Once) -> None:
    customer, key = once.customer(included=Decimal(1)), a_key()
    assert send(customer, key).status == 200
    assert send(customer, a_key()).json["code"] == "quota_exceeded"
    assert send(customer, key).headers["idempotent-replayed"] == "true"


def test_a_replay_is_given_where_more_was_used_than_the_quota_is_now(once: Once) -> None:
    """A quota that was lowered, or that reported usage went past, closes the door to new calls only."""
    customer, key = once.customer(included=Decimal(5)), a_key()
    assert send(customer, key).status == 200
    none = Grant(OverrideKind.QUOTA, Decimal(0), meter=once.route.meter)
    set_override(organization=customer.organization, grant=none, reason="lowered", by=None, at=now())
    wait_for(lambda: send(customer, a_key()).status == 429)
    assert send(customer, key).headers.get("idempotent-replayed") == "true"
    assert send(customer, key, body=b"[]").json["code"] == "idempotency_key_reused"
    assert_nothing_open(once, customer)


def test_limits_of_units_let_replays_pass_and_those_of_calls_count_them(once: Once) -> None:
    once.shop.log()
    meter, key = once.route.meter, a_key()
    sparing = customer_with(once.shop, {"calls": 1, "measure": "units", "meter": meter})
    assert [send(sparing, key).status for _ in range(3)] == [200] * 3
    assert send(sparing, a_key()).json["code"] == "unit_rate_limited"
    counted = customer_with(once.shop, on(once.route, 2))
    assert [send(counted, key).status for _ in range(3)] == [200, 200, 429]
    assert once.shop.log() == ["echo", "echo"]
    assert reasons(counted, 2) == ["", "replayed"]


@pytest.mark.parametrize("whose", ["key", "organization"])
def test_the_only_open_call_is_named_to_its_retry(once: Once, whose: str) -> None:
    one = {"scope": "key", "calls": 1, "measure": "concurrency", "window_seconds": 0}
    customer, key = customer_with(once.shop, *([one] if whose == "key" else [])), a_key()
    if whose == "organization":
        free = component(once.route.meter, model="per_unit", unit_price=Decimal(0))
        put_on(customer.organization, version_of(free, concurrency=1))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, customer, key, "/slow/0.29")
        with usage_redis() as client:
            wait_for(lambda: client.exists(once.mark(customer, key)))
        time.sleep(0.05)
        assert send(customer, key, "/slow/0.29").json["code"] == "idempotency_in_progress"
        assert send(customer, a_key()).status == 429
        assert first.result().status == 200
    assert send(customer, key, "/slow/0.29").headers["idempotent-replayed"] == "true"
    assert_nothing_open(once, customer)


@pytest.mark.parametrize(
    "other",
    [
        {"body": b"{ }"}, {"method": "PUT"}, {"path": "/echo?a=1"}, {"path": "/echo/b"}, {"Content_Type": "text/plain"},
        {"body": None},
    ],
)  # fmt: skip
def test_another_request_with_the_key_is_refused(once: Once, other: dict[str, Any]) -> None:
    customer, key = once.customer(per_minute=10), a_key()
    first = send(customer, key, Content_Type="application/json")
    refused = send(customer, key, **({"Content_Type": "application/json"} | other))
    assert first.status == 200
    assert (refused.status, refused.json["code"]) == (422, "idempotency_key_reused")
    assert once.shop.log() == ["echo"]
    assert reasons(customer, 1) == [""]
    assert send(customer, a_key()).headers["x-ratelimit-remaining"] == "7"  # it counted, and was not charged
    assert_nothing_open(once, customer)
    assert refusals(customer) == {"idempotency_key_reused": 1}


def refusals(customer: Customer) -> Counter[str]:
    """Refusals of the organization by reason."""
    counted: Counter[str] = Counter()
    with usage_redis() as client:
        for key in client.scan_iter(f"{refusals_prefix(customer.organization.shard)}*"):
            fields: Any = client.hgetall(key)
            for field, times in fields.items():
                org, _, _, reason = field.decode().split(":")
                counted[reason] += int(times) if org == str(customer.organization.pk) else 0
    return +counted


def test_of_fifty_at_once_one_reaches_the_upstream(once: Once) -> None:
    customer, key = once.customer(), a_key()
    doors = [once.shop.gateway.api, once.second.api]
    with ThreadPoolExecutor(50) as pool:
        calls = [pool.submit(send, customer, key, "/slow/0.25", via=doors[n % 2]) for n in range(50)]
        answers = [call.result() for call in calls]
    replayed = [a for a in answers if "idempotent-replayed" in a.headers]
    statuses = Counter(answer.status for answer in answers)
    assert once.shop.log() == ["slow"]
    assert statuses[200] == 1 + len(replayed)
    assert statuses[409] == 49 - len(replayed)
    assert statuses[409] > 0
    for answer in answers:
        if answer.status == 409:
            assert answer.json["code"] == "idempotency_in_progress"
            assert answer.headers["retry-after"] == "1"
    assert send(customer, key, "/slow/0.25").headers["idempotent-replayed"] == "true"
    assert Counter(reasons(customer, 2 + len(replayed))) == {"": 1, "replayed": 1 + len(replayed)}
    assert_nothing_open(once, customer)


@pytest.mark.parametrize(
    ("path", "status"), [("/status/404", 404), ("/status/422", 422), ("/status/204", 204)]
)
def test_answers_that_mean_it_are_kept(once: Once, path: str, status: int) -> None:
    customer, key = once.customer(), a_key()
    answers = [send(customer, key, path) for _ in range(2)]
    assert [answer.status for answer in answers] == [status, status]
    assert answers[0].body == answers[1].body
    assert answers[1].headers["idempotent-replayed"] == "true"
    assert once.shop.log() == ["status"]


@pytest.mark.parametrize(
    "path", ["/status/500", "/status/503", "/status/429", "/status/409", "/cut", "/hang-up", "/sleep/2"]
)
def test_answers_that_ask_for_another_try_are_not(once: Once, path: str) -> None:
    customer, key = once.customer(), a_key()
    for _ in range(2):
        try:
            answer = send(customer, key, path)
        except http.client.IncompleteRead:
            continue
        assert "idempotent-replayed" not in answer.headers
        assert answer.status != 422
    assert len([name for name in once.shop.log() if name != "left"]) == 2


def test_an_own_refusal_frees_the_key(once: Once) -> None:
    customer, key = once.customer(per_minute=1), a_key()
    assert send(customer, a_key()).status == 200
    assert send(customer, key).status == 429
    with usage_redis() as client:
        assert not client.exists(once.mark(customer, key))


def test_a_short_window_ends(once: Once) -> None:
    customer, key = once.customer(), a_key()
    send(customer, key)
    with redis.Redis.from_url(settings.CACHE_URL) as cache:
        name = f"{PREFIX}a:{once.place(customer, key).name}"
        assert 590 < cache.ttl(name) <= 600
        cache.delete(name)  # it ended, or was evicted
    again = send(customer, key)
    assert (again.status, again.headers.get("idempotent-replayed")) == (200, None)
    assert reasons(customer, 2) == ["", ""]


def test_an_answer_that_is_too_large_is_made_anew(once: Once) -> None:
    customer, key = once.customer(), a_key()
    for _ in range(2):
        answer = send(customer, key, "/big/30000", via=once.second.api)
        assert (len(answer.body), "idempotent-replayed" in answer.headers) == (30_000, False)
    assert reasons(customer, 2) == ["", ""]
    for _ in range(2):  # the other gateway allows four megabytes
        answer = send(customer, key, "/big/300000")
    assert (len(answer.body), answer.headers["idempotent-replayed"]) == (300_000, "true")


def leave(customer: Customer, key: str, path: str) -> None:
    """Ask, and close the connection before the answer is whole."""
    connection = http.client.HTTPConnection(urlsplit(customer.api.url).netloc, timeout=10)
    headers = {"Authorization": f"Bearer {customer.issued.clear}", "Idempotency-Key": key}
    connection.request("POST", f"/{SLUG}{path}", b"{}", headers)
    time.sleep(0.15)
    connection.close()


@pytest.mark.parametrize("path", ["/slow/0.5", "/stream/0.2"])
def test_the_retry_of_a_client_that_left_gets_the_answer(once: Once, path: str) -> None:
    customer, key = once.customer(), a_key()
    leave(customer, key, path)
    running = send(customer, key, path)
    assert (running.status, running.headers["retry-after"]) == (409, "1")
    again = wait_for(lambda: answer if (answer := send(customer, key, path)).status != 409 else None)
    assert (again.status, again.headers["idempotent-replayed"]) == (200, "true")
    assert again.body == (
        b"late" if path.startswith("/slow") else b"data: one\n\ndata: two\n\ndata: [DONE]\n\n"
    )
    assert once.shop.log() == [path.split("/")[1]]
    assert reasons(customer, 2) == ["", "replayed"]


def test_a_killed_gateway_holds_a_key_for_a_minute_at_most(once: Once) -> None:
    customer, key = once.customer(), a_key()
    dying = Process().wait_until_ready()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(send, customer, key, "/slow/0.29", via=dying.api)
        with usage_redis() as client:
            wait_for(lambda: client.exists(once.mark(customer, key)))
            os.kill(dying._process.pid, signal.SIGKILL)
            dying._process.wait()
            with pytest.raises((http.client.HTTPException, OSError)):
                call.result()
            assert send(customer, key, "/slow/0.29").status == 409
            assert 50_000 < client.pttl(once.mark(customer, key)) <= 60_000
            client.pexpire(once.mark(customer, key), 1)
            time.sleep(0.01)
    again = send(customer, key, "/slow/0.29")
    assert (again.status, "idempotent-replayed" in again.headers) == (200, False)
    assert reasons(customer, 1) == [""]


def test_other_organizations_and_other_modes_have_keys_of_their_own(once: Once) -> None:
    one, other, key = once.customer(), once.customer(), a_key()
    sandbox = create_key(organization=one.organization, mode="test").clear
    answers = [send(one, key), send(other, key), send(one, key, key=sandbox)]
    assert ["idempotent-replayed" in answer.headers for answer in answers] == [False] * 3
    sent = [dict(answer.json["headers"])["idempotency-key"] for answer in answers]
    assert len({key, *sent}) == 4  # nor does the upstream mistake them


def test_keys_of_one_organization_share_answers_and_a_revoked_one_gets_none(once: Once) -> None:
    customer, key = once.customer(), a_key()
    other = create_key(organization=customer.organization)
    assert send(customer, key).status == 200
    assert send(customer, key, key=other.clear).headers["idempotent-replayed"] == "true"
    revoke_key(key=other.key, by=None, at=now())
    refused = send(customer, key, key=other.clear)
    assert (refused.status, refused.json["code"]) == (401, "invalid_key")


def test_what_cannot_be_a_key_is_refused_and_what_needs_none_passes(once: Once) -> None:
    customer = once.customer()
    for text in ("", "x" * 201, "two words"):
        refused = send(customer, text)
        assert (refused.status, refused.json["code"]) == (400, "bad_idempotency_key")
    for _ in range(2):
        assert "idempotent-replayed" not in send(customer, "k", method="GET", body=None).headers
        passed = customer.call("/echo", "POST", b"{}", Idempotency_Key="k")  # a route that keeps none
        assert dict(passed.json["headers"])["Idempotency-Key".lower()] == "k"
        assert "idempotent-replayed" not in passed.headers


def test_without_the_header_nothing_is_written_down(once: Once) -> None:
    customer = once.customer()
    with redis.Redis.from_url(settings.CACHE_URL) as cache, usage_redis() as client:
        before = cache.dbsize()
        assert customer.call("/echo", "POST", b"{}", product=SLUG).status == 200
        assert cache.dbsize() == before
        assert not [*client.scan_iter(f"*once:{customer.organization.pk}:*")]
