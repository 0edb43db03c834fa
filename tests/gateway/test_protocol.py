"""Bounds of the server below the gateway, tried on a server of its own with short times."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
import uvicorn

from gateway import protocol
from gateway.protocol import GuardedProtocol
from tests.gateway.kit import wait_for

HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\n"
BIG = b"x" * 65_536


@dataclass
class Server:
    """uvicorn in a thread; its application notes what it gets and answers 'ok' or, on /big, more than fits on the way."""

    port: int = 0
    got: list[dict[str, Any]] = field(default_factory=list)
    left: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        size = 0
        while (message := await receive())["type"] == "http.request":
            size += len(message["body"])
            if not message["more_body"]:
                break
        else:
            self.left += 1
            return
        self.got.append(dict(scope["headers"]) | {"path": scope["path"], "size": size})
        body = BIG * 500 if scope["path"] == "/big" else b"ok"
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def ask(self, data: bytes) -> bytes:
        """All that comes until the server closes."""
        with self.connect() as link:
            link.sendall(data)
            return read_all(link)


def read_all(link: socket.socket) -> bytes:
    answer = b""
    try:
        while piece := link.recv(65_536):
            answer += piece
    except ConnectionResetError:
        pass
    return answer


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    app = Server()
    config = uvicorn.Config(
        app, port=0, http=GuardedProtocol, loop="asyncio", lifespan="off", log_config=None
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    wait_for(lambda: running.started)
    app.port = running.servers[0].sockets[0].getsockname()[1]
    yield app
    running.should_exit = True
    thread.join(10)


def problem(answer: bytes, status: int, code: str) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b"application/problem+json" in head
    document = orjson.loads(body)
    assert (document["code"], document["status"]) == (code, status)
    assert f"x-request-id: {document['request_id']}".encode() in head


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: xchunked\r\n\r\n",
        HEAD + b"Content-Length: +3\r\n\r\nabc",
        b"CONNECT example.com:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_malformed_requests_are_refused_with_a_problem(server: Server, data: bytes) -> None:
    problem(server.ask(data), 400, "bad_request")


def test_head_without_end_is_cut_before_it_fills_the_memory(server: Server) -> None:
    sent = 0
    with server.connect() as link, suppress(ConnectionError):
        link.sendall(HEAD + b"X-Endless: ")
        while sent < 64 * 1024 * 1024:
            link.sendall(BIG)
            sent += len(BIG)

    assert sent < 8 * 1024 * 1024, "that is more than the sockets between hold"


def test_head_just_over_the_bound_is_told_so(server: Server) -> None:
    problem(server.ask(HEAD + b"X-Long: " + BIG), 431, "headers_too_large")


def test_trailers_are_neither_headers_nor_without_bound(server: Server) -> None:
    body = b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n"
    answer = server.ask(HEAD + b"Connection: close\r\n" + body + b"X-Farebox-Plan: forged\r\n\r\n")

    assert answer.endswith(b"\r\n\r\nok")
    assert server.got[-1]["size"] == 2
    assert b"x-farebox-plan" not in server.got[-1]

    before = len(server.got)
    problem(server.ask(HEAD + body + b"X-Long: " + BIG * 5), 431, "headers_too_large")
    assert len(server.got) == before


def test_slow_head_ends_and_silence_too(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    started = time.monotonic()

    problem(server.ask(HEAD), 408, "request_timeout")
    assert server.ask(b"") == b""
    with server.connect() as link:  # byte by byte does not help
        for byte in HEAD:
            time.sleep(0.02)
            try:
                link.sendall(bytes([byte]))
            except OSError:
                break
        problem(read_all(link), 408, "request_timeout")

    assert time.monotonic() - started < 3


def test_slow_head_of_a_second_request_ends_too(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)

    with server.connect() as link:
        link.sendall(HEAD + b"Content-Length: 0\r\n\r\n")
        answer = b""
        while not answer.endswith(b"ok"):
            answer += link.recv(65_536)
        link.sendall(HEAD)

        problem(read_all(link), 408, "request_timeout")


def test_body_may_take_longer_than_a_head(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    with server.connect() as link:
        link.sendall(HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\na")
        time.sleep(0.3)
        link.sendall(b"b")

        assert read_all(link).endswith(b"ok")


def test_body_that_pauses_too_long_ends(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "BODY_SECONDS", 0.3)
    left = server.left
    with server.connect() as link:
        link.sendall(HEAD + b"Content-Length: 9\r\n\r\n")
        for _ in range(5):
            link.sendall(b"x")
            time.sleep(0.15)

        problem(read_all(link), 408, "request_timeout")

    wait_for(lambda: server.left == left + 1)


def test_client_that_does_not_read_is_let_go(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "WRITE_SECONDS", 0.3)
    with server.connect() as link:
        link.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(1)

        assert len(read_all(link)) < 500 * len(BIG)


def test_upgrades_are_requests_like_others(server: Server) -> None:
    answer = server.ask(
        b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n"
    )

    assert answer.endswith(b"ok")
    assert server.got[-1]["path"] == "/ws"
