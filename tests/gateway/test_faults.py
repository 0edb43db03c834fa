"""What breaks around a call: the API, the client, Redis, PostgreSQL. Nobody pays for what did not come."""

import http.client
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from core.clock import now
from core.redis import usage_redis
from keys.services import revoke_key
from tests.gateway.cable import Cable
from tests.gateway.kit import SLUG, Customer, Process, Shop, wait_for
from tests.gateway.test_refusals import assert_refused

pytestmark = pytest.mark.usefixtures("shop")


def assert_unbilled(customer: Customer, status: int, reason: str) -> None:
    event = customer.only_event()
    assert (event["qty"], event["status"], event["reason"]) == (0, status, reason)


# --- the API -----------------------------------------------------------------------------------------------------


def test_api_that_is_down(shop: Shop) -> None:
    customer = shop.customer()

    answer = customer.call("/echo", product="down")

    assert assert_refused(answer, 502, "upstream_unavailable")["instance"] == "/down/echo"
    assert "ratelimit" in answer.headers
    assert_unbilled(customer, 502, "upstream_unavailable")


def test_api_that_hangs_up_before_it_answers(shop: Shop) -> None:
    customer = shop.customer()

    assert_refused(customer.call("/hang-up"), 502, "upstream_unavailable")
    assert_unbilled(customer, 502, "upstream_unavailable")


def test_api_that_is_slow(shop: Shop) -> None:
    customer = shop.customer()
    started = time.monotonic()

    assert_refused(customer.call("/slow/5"), 504, "upstream_timeout")

    assert time.monotonic() - started < 3
    assert_unbilled(customer, 504, "upstream_timeout")
    wait_for(lambda: "left" in shop.log())


@pytest.mark.parametrize(
    ("status", "reason"), [(500, "upstream_error"), (503, "upstream_error"), (404, "client_error")]
)
def test_errors_of_the_api_pass_as_they_are_and_are_not_billed(shop: Shop, status: int, reason: str) -> None:
    customer = shop.customer()

    answer = customer.call(f"/status/{status}")

    assert (answer.status, answer.body) == (status, str(status).encode())
    assert_unbilled(customer, status, reason)


def test_client_errors_are_billed_where_the_route_says_so(shop: Shop) -> None:
    customer = shop.customer()

    assert customer.call("/status/404/billed").status == 404
    assert customer.only_event()["qty"] == 1


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/cut", "upstream_error"), ("/cut-chunked", "upstream_error"), ("/stall/5", "upstream_timeout")],
)
def test_answer_that_breaks_off_breaks_off_for_the_client_too(shop: Shop, path: str, reason: str) -> None:
    customer = shop.customer()

    with pytest.raises(http.client.IncompleteRead):
        customer.call(path)

    assert_unbilled(customer, 200, reason)


def test_gateway_serves_on_after_all_of_this(shop: Shop) -> None:
    assert shop.customer().call().status == 200


# --- the client --------------------------------------------------------------------------------------------------


def _open(shop: Shop, customer: Customer, path: str) -> socket.socket:
    parts = urlsplit(shop.gateway.url)
    link = socket.create_connection((parts.hostname, parts.port), timeout=10)
    link.sendall(
        f"GET /{SLUG}{path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {customer.issued.clear}\r\n\r\n".encode()
    )
    return link


def test_client_that_leaves_before_the_answer_is_not_billed_and_the_api_is_told(shop: Shop) -> None:
    customer = shop.customer()
    shop.log()

    with _open(shop, customer, "/sleep/9"):
        wait_for(lambda: "sleep" in shop.log())

    wait_for(lambda: "left" in shop.log())
    assert_unbilled(customer, 499, "client_gone")


def test_client_that_leaves_in_the_middle_pays_for_what_was_delivered(shop: Shop) -> None:
    customer = shop.customer()
    shop.log()

    with _open(shop, customer, "/endless") as link:
        received = b""
        while b"more" not in received:
            received += link.recv(65_536)

    event = customer.only_event()
    assert (event["qty"], event["status"]) == (1, 200)
    assert event["out"] > 0
    wait_for(lambda: "left" in shop.log())


def test_body_that_the_client_breaks_off_is_not_billed(shop: Shop) -> None:
    customer = shop.customer()
    parts = urlsplit(shop.gateway.url)

    with socket.create_connection((parts.hostname, parts.port)) as link:
        head = f"POST /{SLUG}/echo HTTP/1.1\r\nHost: a\r\nX-API-Key: {customer.issued.clear}\r\n"
        link.sendall(f"{head}Content-Length: 1000\r\n\r\nnot all".encode())
        time.sleep(0.2)

    assert_unbilled(customer, 499, "client_gone")


# --- Redis and PostgreSQL ----------------------------------------------------------------------------------------


@dataclass
class Wired:
    """A gateway whose servers can be taken away."""

    process: Process
    redis: Cable
    database: Cable

    def mend(self) -> None:
        self.redis.mend()
        self.database.mend()
        wait_for(lambda: self.process.api.get("/readyz").status == 200, within=10)


@pytest.fixture(scope="module")
def wired_process(shop: Shop) -> Iterator[Wired]:
    redis, database = Cable(os.environ["REDIS_URL"]), Cable(os.environ["DATABASE_URL"])
    process = Process(REDIS_URL=redis.url, DATABASE_URL=database.url)
    try:
        yield Wired(process.wait_until_ready(), redis, database)
    finally:
        redis.mend()
        process.stop()
        redis.close()
        database.close()


@pytest.fixture
def wired(wired_process: Wired) -> Iterator[Wired]:
    yield wired_process
    wired_process.mend()


@pytest.mark.parametrize("how", ["cut", "hold"])
def test_without_redis_nothing_passes_and_nothing_is_charged(shop: Shop, wired: Wired, how: str) -> None:
    customer = shop.customer()
    api = wired.process.api
    assert customer.call(via=api).status == 200
    shop.log()
    getattr(wired.redis, how)()
    started = time.monotonic()

    answer = customer.call(via=api)

    assert_refused(answer, 503, "metering_unavailable")
    assert answer.headers["retry-after"] == "5"
    assert time.monotonic() - started < 3.5
    assert (api.get("/livez").status, api.get("/readyz").status) == (200, 503)
    assert shop.log() == []
    wired.mend()
    wait_for(lambda: customer.call(via=api).status == 200)
    assert {event["qty"] for event in customer.events()} == {1}


def test_redis_that_leaves_during_a_call_keeps_the_end_of_the_answer(shop: Shop, wired: Wired) -> None:
    """Settling is tried for 5 s; then the connection is cut, because the call is not in the stream."""
    customer = shop.customer()
    connection = http.client.HTTPConnection(urlsplit(wired.process.url).netloc, timeout=15)
    connection.request("GET", f"/{SLUG}/stream/0.5", headers={"X-API-Key": customer.issued.clear})
    response = connection.getresponse()
    wired.redis.cut()

    with pytest.raises(http.client.IncompleteRead) as caught:
        response.read()

    assert b"[DONE]" not in caught.value.partial
    connection.close()
    wired.mend()
    assert customer.events() == []


def test_call_is_settled_when_redis_comes_back_in_time(shop: Shop, wired: Wired) -> None:
    customer = shop.customer()
    connection = http.client.HTTPConnection(urlsplit(wired.process.url).netloc, timeout=15)
    connection.request("GET", f"/{SLUG}/stream/0.3", headers={"X-API-Key": customer.issued.clear})
    response = connection.getresponse()
    wired.redis.cut()
    time.sleep(1.5)
    wired.redis.mend()

    assert response.read().endswith(b"[DONE]\n\n")
    connection.close()
    assert [event["qty"] for event in customer.events()] == [1]


def test_usual_call_that_redis_leaves_is_cut_before_its_last_byte(shop: Shop, wired: Wired) -> None:
    """The API has answered, but the call cannot be written down: the client must not have the whole answer."""
    customer = shop.customer()
    assert customer.call(via=wired.process.api).status == 200  # its key is known from here on
    connection = http.client.HTTPConnection(urlsplit(wired.process.url).netloc, timeout=15)
    connection.request("GET", f"/{SLUG}/sleep/0.3", headers={"X-API-Key": customer.issued.clear})
    time.sleep(0.15)
    wired.redis.cut()

    response = connection.getresponse()
    with pytest.raises(http.client.IncompleteRead) as caught:
        response.read()

    assert caught.value.partial == b"lat"
    connection.close()
    wired.mend()
    assert len(customer.events()) == 1


def test_usual_call_is_settled_when_redis_comes_back_in_time(shop: Shop, wired: Wired) -> None:
    customer = shop.customer()
    assert customer.call(via=wired.process.api).status == 200
    connection = http.client.HTTPConnection(urlsplit(wired.process.url).netloc, timeout=15)
    connection.request("GET", f"/{SLUG}/sleep/0.3", headers={"X-API-Key": customer.issued.clear})
    time.sleep(0.15)
    wired.redis.cut()
    time.sleep(1.0)
    wired.redis.mend()

    assert connection.getresponse().read() == b"late"
    connection.close()
    assert [event["qty"] for event in customer.events()] == [1, 1]


def test_scripts_that_redis_has_forgotten_are_loaded_again(shop: Shop) -> None:
    """Before the admission, and again between it and the settle."""
    customer = shop.customer()
    assert customer.call().status == 200
    usage_redis().script_flush()
    assert customer.call().status == 200
    connection = http.client.HTTPConnection(urlsplit(shop.gateway.url).netloc, timeout=15)
    connection.request("GET", f"/{SLUG}/sleep/0.3", headers={"X-API-Key": customer.issued.clear})
    time.sleep(0.15)
    usage_redis().script_flush()

    assert connection.getresponse().read() == b"late"
    connection.close()
    assert [event["qty"] for event in customer.events()] == [1, 1, 1]


def test_without_postgres_known_keys_go_on_and_unknown_ones_wait(shop: Shop, wired: Wired) -> None:
    known, unknown = shop.customer(), shop.customer()
    api = wired.process.api
    assert known.call(via=api).status == 200

    wired.database.cut()

    assert known.call(via=api).status == 200
    time.sleep(1.5)  # the route table could not be read again meanwhile
    assert known.call(via=api).status == 200
    answer = unknown.call(via=api)
    assert_refused(answer, 503, "key_lookup_unavailable")
    assert answer.headers["retry-after"] == "5"
    assert api.get("/readyz").status == 200
    wired.database.mend()
    assert unknown.call(via=api).status == 200


def test_revoked_key_is_not_let_in_while_postgres_is_away(shop: Shop, wired: Wired) -> None:
    customer = shop.customer()
    assert customer.call(via=wired.process.api).status == 200
    wired.database.cut()
    revoke_key(key=customer.issued.key, by=None, at=now())  # on a connection of our own

    assert customer.call(via=wired.process.api).status == 503
    wired.database.mend()
    assert_refused(customer.call(via=wired.process.api), 401, "invalid_key")


def test_gateway_that_is_stopped_finishes_what_is_under_way(shop: Shop) -> None:
    customer, process = shop.customer(), Process().wait_until_ready()
    connection = http.client.HTTPConnection(urlsplit(process.url).netloc, timeout=15)
    connection.request("GET", f"/{SLUG}/stream/0.3", headers={"X-API-Key": customer.issued.clear})
    response = connection.getresponse()

    assert process.stop() in (0, -signal.SIGTERM)

    assert response.read().endswith(b"[DONE]\n\n")
    connection.close()
    assert [event["qty"] for event in customer.events()] == [1]


def test_answer_that_never_ends_is_ended_where_the_installation_says_so(shop: Shop) -> None:
    customer, process = shop.customer(), Process(UPSTREAM_LONGEST_ANSWER_SECONDS="1").wait_until_ready()
    shop.log()
    started = time.monotonic()

    with pytest.raises(http.client.IncompleteRead):
        customer.call("/endless", via=process.api)

    assert 1 <= time.monotonic() - started < 4
    assert_unbilled(customer, 200, "upstream_timeout")
    wait_for(lambda: "left" in shop.log())
    assert customer.call("/chunked", via=process.api).status == 200  # within its time
    process.stop()
