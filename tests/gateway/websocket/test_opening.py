"""Who may open a WebSocket, what the API is told of it, and how handshakes are refused."""

import json
import socket
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.frames import Close

from tests.gateway.kit import Process, wait_for
from tests.gateway.websocket.kit import Sockets, closed, held
from tests.gateway.websocket.raw import handshake


def test_messages_pass_both_ways_and_are_counted(sockets: Sockets) -> None:
    customer = sockets.customer()
    with sockets.open(customer, "live/echo") as ws:
        ws.send("one")
        assert ws.recv(timeout=5) == "one"
        ws.send(b"two")
        assert ws.recv(timeout=5) == b"two"
        assert ws.response is not None
        assert ws.response.headers["X-RateLimit-Remaining"] == "999"
        assert "Sec-WebSocket-Extensions" not in ws.response.headers
    event = customer.only_event()
    assert (event["qty"], event["status"], event.get("reason", "")) == (Decimal(4), 101, "")
    props = event["props"]
    assert (props["messages_in"], props["messages_out"], props["close_code"], props["ended_by"]) == (
        2,
        2,
        1000,
        "client",
    )
    assert event["in"] > 10
    assert held(customer) == 0


def test_only_messages_of_the_client_where_the_route_says_so(sockets: Sockets) -> None:
    customer = sockets.customer()
    with sockets.open(customer, "ask/echo") as ws:
        for _ in range(3):
            ws.send("x")
            ws.recv(timeout=5)
    assert customer.only_event()["qty"] == Decimal(3)


def test_a_connection_is_one_row_when_it_opens_and_one_that_tells_how_it_ended(sockets: Sockets) -> None:
    customer = sockets.customer()
    with sockets.open(customer, "line/echo") as ws:
        opened = customer.only_event()
        assert (opened["qty"], opened["status"]) == (Decimal(1), 101)
        assert held(customer) == 1  # its place among the open calls
        assert ws.response is not None
        assert ws.response.headers["Farebox-Units"] == "1"
        ws.send("x")
        ws.recv(timeout=5)
    wait_for(lambda: len(customer.events()) == 2)
    last = customer.events()[1]
    assert (last["qty"], last["reason"], last.get("status")) == (Decimal(0), "connection_closed", None)
    assert last["props"]["messages_in"] == 1
    assert last["rid"] == opened["rid"]
    assert held(customer) == 0


def test_the_api_is_told_who_calls_and_never_the_key(sockets: Sockets) -> None:
    customer = sockets.customer()
    offered: Any = ["farebox", f"farebox.key.{customer.issued.clear}", "chat"]
    with sockets.open(
        customer, "line/head?a=%20b", key="", subprotocols=offered, origin="https://app.example", user_agent_header="me"
    ) as ws:  # fmt: skip
        assert ws.subprotocol == "chat"
        asked = json.loads(ws.recv(timeout=5))
    headers = {name.lower(): value for name, value in asked["headers"]}
    assert asked["path"] == "/head?a=%20b"
    assert headers["x-farebox-organization"] == customer.organization.public_id
    assert (headers["origin"], headers["x-token"], headers["user-agent"]) == (
        "https://app.example",
        "owner's",
        "me",
    )
    assert headers["sec-websocket-protocol"] == "chat"
    assert "sec-websocket-extensions" not in headers
    assert customer.issued.clear not in json.dumps(asked)


def test_a_browser_that_offers_only_us_is_answered_with_us(sockets: Sockets) -> None:
    customer = sockets.customer()
    offered: Any = ["farebox", f"farebox.key.{customer.issued.clear}"]
    with sockets.open(customer, "line/echo", key="", subprotocols=offered) as ws:
        assert ws.subprotocol == "farebox"


@pytest.mark.parametrize(
    ("path", "facts", "code", "status"),
    [
        ("line/echo", {"key": ""}, "missing_key", 401),
        ("line/echo", {"key": "fbx_nothing"}, "invalid_key", 401),
        ("line/pro", {}, "feature_not_in_plan", 403),
        ("nothing/here", {}, "not_found", 404),
        ("live/log", {}, "upgrade_not_supported", 501),
        ("offline/echo", {}, "upstream_unavailable", 502),
        ("line/hang", {}, "upstream_timeout", 504),
    ],
)
def test_a_refused_handshake_is_a_problem_document(
    sockets: Sockets, path: str, facts: dict[str, Any], code: str, status: int
) -> None:
    customer = sockets.customer()
    answer = sockets.refused(customer, path, **facts)
    problem = json.loads(answer.body or b"")
    assert (answer.status_code, problem["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert [event["qty"] for event in customer.events()] == [Decimal(0)] * (status > 501)
    assert held(customer) == 0


def test_what_the_api_answers_instead_is_the_clients_to_read_and_free(sockets: Sockets) -> None:
    customer = sockets.customer()
    answer = sockets.refused(customer, "line/refuse/403")
    assert (answer.status_code, answer.body, answer.headers["X-Why"]) == (403, b"not you", "because")
    assert answer.headers["Farebox-Units"] == "0"
    event = customer.only_event()
    assert (event["qty"], event["reason"], event["status"]) == (Decimal(0), "client_error", 403)


def test_rate_limit_quota_and_calls_at_once_hold_for_connections(sockets: Sockets) -> None:
    customer = sockets.customer(per_minute=2)
    with sockets.open(customer, "line/echo"), sockets.open(customer, "live/echo"):
        answer = sockets.refused(customer, "line/echo")
        assert (answer.status_code, json.loads(answer.body or b"")["code"]) == (429, "rate_limited")
        assert "Retry-After" in answer.headers
    used_up = sockets.customer(included=Decimal(1))
    with sockets.open(used_up, "line/echo"):
        answer = sockets.refused(used_up, "live/echo")
        assert (answer.status_code, json.loads(answer.body or b"")["code"]) == (429, "quota_exceeded")


def test_a_plain_call_to_a_route_of_websockets_is_told_to_upgrade(sockets: Sockets) -> None:
    customer = sockets.customer()
    answer = customer.call("/echo", product="line")
    assert (answer.status, answer.json["code"], answer.headers["upgrade"]) == (
        426,
        "upgrade_required",
        "websocket",
    )
    assert customer.events() == []


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Sec-WebSocket-Version": "8"}, 426, "upgrade_required"),
        ({"Sec-WebSocket-Key": "short"}, 400, "bad_handshake"),
        ({"Sec-WebSocket-Key": None}, 400, "bad_handshake"),
        ({"Content-Length": "3"}, 400, "bad_request"),
        ({"Upgrade": "h2c"}, 501, "upgrade_not_supported"),
        ({"Connection": "close"}, 501, "upgrade_not_supported"),
    ],
)
def test_malformed_handshakes_are_refused_and_not_counted(
    sockets: Sockets, headers: dict[str, str | None], status: int, code: str
) -> None:
    customer = sockets.customer()
    sent = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Authorization": f"Bearer {customer.issued.clear}",
    } | headers  # fmt: skip
    body = b"abc" if "Content-Length" in headers else None
    answer = sockets.gateway.api.send(
        "GET",
        "/line/echo",
        body=body,
        headers={name: value for name, value in sent.items() if value is not None},
    )
    assert (answer.status, answer.json["code"]) == (status, code)
    assert (customer.events(), held(customer)) == ([], 0)


@pytest.mark.parametrize(("method", "version"), [("HEAD", "1.1"), ("POST", "1.1"), ("GET", "1.0")])
def test_a_handshake_is_a_get_in_http_1_1(sockets: Sockets, method: str, version: str) -> None:
    customer = sockets.customer()
    host, _, port = urlsplit(sockets.gateway.url).netloc.partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as sock:
        sock.sendall(handshake(customer, "line/posted", method=method, version=version))
        status = sock.recv(4096).split()[1]
    assert status == b"400"
    assert (customer.events(), held(customer)) == ([], 0)


def test_the_client_learns_how_the_api_closed(sockets: Sockets) -> None:
    customer = sockets.customer()
    with sockets.open(customer, "live/closes/4321") as ws:
        ws.send("x")
        assert closed(ws) == Close(4321, "said so")
    assert customer.only_event()["props"]["close_code"] == 4321


def test_an_api_inside_is_out_of_reach_where_the_owner_says_so(sockets: Sockets) -> None:
    gateway, customer = Process(FAREBOX_UPSTREAM_ALLOW_PRIVATE="0").wait_until_ready(), sockets.customer()
    try:
        assert sockets.refused(customer, "line/echo", via=gateway).status_code == 502
    finally:
        gateway.stop()
    assert customer.only_event()["reason"] == "upstream_unavailable"


def test_of_several_servers_one_that_accepts_is_found_and_billed_once(sockets: Sockets) -> None:
    customer = sockets.customer()
    for _ in range(6):
        with sockets.open(customer, "several/echo") as ws:
            ws.send("x")
            assert ws.recv(timeout=5) == "x"
    wait_for(lambda: len(customer.events()) == 12)
    opened = [event for event in customer.events() if event.get("status") == 101]
    assert [event["qty"] for event in opened] == [Decimal(1)] * 6
    assert {event["props"]["attempts"] for event in opened if "props" in event} <= {2, 3}
    assert any("props" in event for event in opened)
