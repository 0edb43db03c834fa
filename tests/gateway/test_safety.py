"""Slow readers are bounded in memory, nobody learns a secret, and no request says more than it may: with real processes."""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from deploy.local.ports import free_port
from plans.models import Product
from tests.examples.processes import ROOT, Api
from tests.factories import create_product, create_route
from tests.gateway.kit import SLUG, Customer, Process, Shop, wait_for

Record = Callable[[str, object], None]
MIB = 1024 * 1024
READERS, MOST_KB = 40, 2 * 1024  # what the sockets and buffers of one call hold, of its 50 MB
SECRET = "owner-secret-of-the-upstream-4711"
LOCATION = "elsewhere"


@pytest.fixture(scope="module")
def worker(shop: Shop) -> Iterator[Process]:
    process = Process().wait_until_ready()
    yield process
    process.stop()


@pytest.fixture
def customer(shop: Shop) -> Customer:
    customer = shop.customer(per_minute=10_000, included=10_000)
    shop.log()
    return customer


def connect(worker: Process) -> socket.socket:
    parts = urlsplit(worker.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=10)


def ask(worker: Process, data: bytes) -> bytes:
    """The answer to these bytes, which end with the connection."""
    with connect(worker) as link:
        link.sendall(data)
        said = b""
        while piece := link.recv(65_536):
            said += piece
        return said


def test_clients_that_do_not_read_fill_no_memory_and_hinder_nobody(
    shop: Shop, worker: Process, customer: Customer, record_property: Record
) -> None:
    """Each asks for 50 MB and reads nothing of it: the upstream is slowed down instead."""
    assert customer.call(via=worker.api).status == 200
    before = worker.rss_kb()
    head = f"GET /{SLUG}/big/{50 * MIB} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {customer.issued.clear}\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(READERS):
            link = stack.enter_context(connect(worker))
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            link.sendall(head.encode())
        time.sleep(2)
        soon_kb = worker.rss_kb() - before
        time.sleep(2)
        grown_kb = worker.rss_kb() - before
        started = time.monotonic()
        assert customer.call(via=worker.api).status == 200
        waited = time.monotonic() - started
    record_property("slow_readers", READERS)
    record_property("slow_kb", max(grown_kb, 0))
    assert grown_kb < READERS * MOST_KB
    assert grown_kb - soon_kb < READERS * 100, "it goes on growing"
    assert waited < 2
    wait_for(lambda: len(customer.events()) == READERS + 2, within=10)  # each left: its end is known
    shop.log()


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(shop: Shop) -> Product:
    """A product with a credential; its upstream answers well, and another one's is not there."""
    product = create_product(
        "guarded", upstream_url=f"{shop.upstream.url}/", credential_header="X-Token", credential=SECRET
    )
    create_route(product, "/*", timeout_ms=500)
    away = create_product(
        "away",
        upstream_url="http://127.0.0.1:9/",
        credential_header="Authorization",
        credential=f"Bearer {SECRET}",
    )
    create_route(away, "/*", timeout_ms=500)
    time.sleep(1)
    return product


@pytest.fixture
def talkative(tmp_path: Path) -> Iterator[tuple[Api, Path]]:
    """A gateway that logs all it can, and where."""
    port, log = free_port(), tmp_path / "gateway.log"
    argv = [sys.executable, "-m", "uvicorn", "gateway.app:app", "--port", str(port), "--log-level", "trace"]
    argv += [
        "--http",
        "gateway.protocol:GuardedProtocol",
        "--loop",
        "uvloop",
        "--timeout-graceful-shutdown",
        "2",
    ]
    with log.open("wb") as file:
        environment = os.environ | {"LOG_LEVEL": "DEBUG", "PYTHONASYNCIODEBUG": "1"}
        process = subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=file, stderr=file)
        api = Api(f"http://127.0.0.1:{port}")

        def is_ready() -> bool:
            try:
                return api.get("/readyz").status == 200
            except OSError:
                return False

        try:
            wait_for(is_ready, within=30)
            yield api, log
        finally:
            process.terminate()
            process.wait(15)


def test_no_answer_and_no_log_tells_a_secret(
    guarded: Product, talkative: tuple[Api, Path], customer: Customer, record_property: Record
) -> None:
    api, log = talkative
    paths = [
        "/guarded/status/401", "/guarded/status/500", "/guarded/status/302", "/guarded/hang-up", "/guarded/cut",
        "/guarded/cut-chunked", "/guarded/sleep/2", "/guarded/not-modified", "/away/x", "/guarded/%2e%2e/x", "/nowhere/x",
    ]  # fmt: skip
    told = b""
    for path in paths:
        connection = http.client.HTTPConnection(urlsplit(api.url).netloc, timeout=10)
        connection.request("GET", path, headers={"Authorization": f"Bearer {customer.issued.clear}"})
        try:
            response = connection.getresponse()
            told += str(response.getheaders()).encode() + response.read()
        except http.client.IncompleteRead as cut:
            told += cut.partial
        finally:
            connection.close()
    wait_for(lambda: len(customer.events()) >= 8)
    searched = told + log.read_bytes()
    secrets = [SECRET, customer.issued.clear, os.environ["SECRET_KEY"], os.environ["ENCRYPTION_KEYS"]]
    secrets += [password for password in re.findall(r"://[^:/@]*:([^@]+)@", os.environ["REDIS_URL"])]
    leaks = [secret for secret in secrets if secret.encode() in searched]
    record_property("searched_bytes", len(searched))
    record_property("leaks", len(leaks))
    assert b"call_failed" not in searched, "a fault of ours"
    assert len(told) > 1_000
    assert leaks == []


def test_a_redirect_of_the_upstream_is_the_clients_to_follow(
    guarded: Product, customer: Customer, worker: Process
) -> None:
    answer = customer.call("/status/302", product="guarded", via=worker.api)
    assert (answer.status, answer.headers["location"]) == (302, f"/{LOCATION}")
    assert SECRET not in str(answer.headers)


# --- what a request may say ------------------------------------------------------------------------------------------


def echoed(worker: Process, customer: Customer, *lines: str, target: str = f"/{SLUG}/echo") -> dict[str, Any]:
    """What the upstream got: its target, and its headers as a dictionary in lower case (those said twice joined)."""
    head = [
        f"GET {target} HTTP/1.1",
        "Host: api.example",
        f"Authorization: Bearer {customer.issued.clear}",
        *lines,
    ]
    said = ask(worker, ("\r\n".join([*head, "Connection: close", "", ""])).encode())
    assert said.startswith(b"HTTP/1.1 200 "), said[:200]
    document = json.loads(said.partition(b"\r\n\r\n")[2])
    headers: dict[str, str] = {}
    for name, value in document["headers"]:
        headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
    return {"target": document["target"], "headers": headers}


def test_who_calls_is_said_by_us_alone(worker: Process, customer: Customer, shop: Shop) -> None:
    got = echoed(
        worker, customer, "X-Forwarded-For: 198.51.100.7", "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https",
        "Forwarded: for=198.51.100.7", "X-Farebox-Organization: org_other", "X_Farebox_Plan: forged", "X-Token: mine",
        "X-Request-Id: mine", "X-API_Key: other",
    )["headers"]  # fmt: skip
    assert got["x-forwarded-for"] == "127.0.0.1"
    assert (got["x-forwarded-host"], got["x-forwarded-proto"]) == ("api.example", "http")
    assert got["x-farebox-organization"] == customer.organization.public_id
    assert got["x-token"] == "owner's"
    assert got["x-request-id"].startswith("req_")
    assert not {"forwarded", "x_farebox_plan", "x-api_key", "authorization"} & set(got)
    shop.log()


def test_headers_that_connection_names_are_not_passed_on(
    worker: Process, customer: Customer, shop: Shop
) -> None:
    got = echoed(
        worker, customer, "Connection: X-Hop, X-Other", "X-Hop: 1", "X-Other: 1", "X-Stays: 1", "Keep-Alive: timeout=5",
        "Proxy-Authorization: Basic eA==", "TE: trailers", "Proxy-Connection: keep-alive",
    )["headers"]  # fmt: skip
    assert got["x-stays"] == "1"
    assert not {"x-hop", "x-other", "keep-alive", "proxy-authorization", "te", "proxy-connection"} & set(got)
    shop.log()


def test_connection_cannot_take_away_what_we_say(worker: Process, customer: Customer, shop: Shop) -> None:
    got = echoed(
        worker, customer, "Connection: X-Farebox-Organization, X-Token, X-Forwarded-For, X-Request-Id, Host"
    )["headers"]
    assert got["x-token"] == "owner's"
    assert got["x-farebox-organization"] == customer.organization.public_id
    assert {"x-forwarded-for", "x-request-id", "host"} <= set(got)
    shop.log()


@pytest.mark.parametrize("server", ["169.254.169.254", "evil.example:8080", "user@127.0.0.1:9"])
def test_a_target_that_names_a_server_leads_to_ours(
    worker: Process, customer: Customer, shop: Shop, server: str
) -> None:
    """The form that proxies are asked in (RFC 9112, 3.2.2) is understood; the server in it is not."""
    got = echoed(worker, customer, target=f"http://{server}/{SLUG}/echo")
    assert got["target"] == "/echo"
    assert shop.log() == ["echo"]


@pytest.mark.parametrize(
    "target", ["//evil.example/bad/echo", "*", "bad/echo", "http:bad/echo", "file:///bad/echo"]
)
def test_a_target_that_is_no_path_leads_nowhere(
    worker: Process, customer: Customer, shop: Shop, target: str
) -> None:
    head = f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {customer.issued.clear}\r\n\r\n"
    said = ask(worker, head.encode())
    assert said[9:12] in (b"400", b"404"), said[:100]
    assert shop.log() == []


@pytest.mark.parametrize(
    "target",
    [
        f"/{SLUG}/echo?x=%0d%0aX-Injected:%201",
        f"/{SLUG}/echo/%0d%0aX-Injected:%201",
        f"/{SLUG}/echo?x=%00&y=%0a",
    ],
)
def test_lines_in_a_path_stay_in_percents(
    worker: Process, customer: Customer, shop: Shop, target: str
) -> None:
    got = echoed(worker, customer, target=target)
    assert got["target"] == target.removeprefix(f"/{SLUG}")
    assert "x-injected" not in got["headers"]
    shop.log()
