"""The usual call goes its own short way; nobody can tell by anything but the time it takes."""

import asyncio
import http.client
import signal
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from core.redis_loop import NotSent
from gateway import lane as lane_module
from gateway.lane import Lane, kind_of
from gateway.plain_call import PlainCall
from gateway.recorder import Recorder
from gateway.routes import RouteTable, load_route_table
from gateway.upstream.connection import Connection
from gateway.upstream.origin import Origin
from gateway.upstream.pool import Pool
from gateway.upstream_guard import guarded_socket
from keys.hashing import digest, make_key
from metering.calls import Charge
from metering.prepared import PreparedCall
from plans.door import Span
from tests.gateway.kit import SLUG, Customer, Process, Shop, wait_for
from tests.gateway.records import record

pytestmark = pytest.mark.usefixtures("shop")

# An unusual head that the API does not see: it sends a call the general way.
USUAL, GENERAL = "keep-alive", "X-Unusual, keep-alive"
_OF_THE_CALL = {"date", "x-request-id", "ratelimit", "x-ratelimit-remaining", "x-ratelimit-reset"}
_SAME_IN_EVENTS = (
    "mode",
    "meter",
    "qty",
    "key",
    "product",
    "route",
    "status",
    "in",
    "reason",
    "door",
    "org",
    "period",
)


def _facts(answer: Any) -> tuple[Any, ...]:
    """What two equal calls have in common."""
    headers = {name: value for name, value in answer.headers.items() if name not in _OF_THE_CALL}
    headers["content-length"] = str(
        len(answer.body)
    )  # by the general way small answers in chunks stay in chunks
    headers.pop("transfer-encoding", None)
    is_document = answer.headers.get("content-type") == "application/json" and answer.body
    document = dict(answer.json) if is_document else None
    if document is not None:
        document["headers"] = sorted(
            (name.lower(), value) for name, value in document["headers"] if name.lower() != "x-request-id"
        )
        headers.pop("content-length")
        return answer.status, headers, document
    if "problem" in answer.headers.get("content-type", ""):
        headers.pop("content-length")
        return answer.status, headers, {**answer.json, "request_id": ""}
    return answer.status, headers, answer.body


@pytest.mark.parametrize(
    ("method", "path", "body", "product"),
    [
        ("GET", "/echo?q=a%20b&q=%23", None, SLUG),
        ("GET", "/five", None, SLUG),
        ("GET", "/status/404", None, SLUG),
        ("GET", "/status/404/billed", None, SLUG),
        ("GET", "/status/302", None, SLUG),
        ("GET", "/status/500", None, SLUG),
        ("GET", "/status/204", None, SLUG),
        ("GET", "/not-modified", None, SLUG),
        ("GET", "/empty", None, SLUG),
        ("GET", "/chunked", None, SLUG),
        ("HEAD", "/get", None, SLUG),
        ("POST", "/echo", b"some body", SLUG),
        ("POST", "/echo", b"", SLUG),
        ("POST", "/small", b"x" * 1001, SLUG),
        ("PUT", "/echo", b"y" * 70_000, SLUG),
        ("GET", "/slow/2", None, SLUG),
        ("GET", "/hang-up", None, SLUG),
        ("GET", "/echo", None, "down"),
        ("GET", "/pro", None, SLUG),
        ("GET", "/echo", None, "nowhere"),
    ],
)  # fmt: skip
def test_both_ways_answer_alike_and_leave_the_same_event(
    shop: Shop, method: str, path: str, body: bytes | None, product: str
) -> None:
    customer = shop.customer()
    usual, general = (
        customer.call(
            path, method, body, product=product, X_Mine="1", X_Request_Id="forged", Connection=connection
        )
        for connection in (USUAL, GENERAL)
    )

    assert _facts(usual) == _facts(general)
    assert usual.headers["x-request-id"] != general.headers["x-request-id"]
    events = [{name: event.get(name) for name in _SAME_IN_EVENTS} for event in customer.events()]
    if events:
        first, second = events
        assert first == second


def test_refusals_are_alike_too(shop: Shop) -> None:
    one, other = (shop.customer(per_minute=1) for _ in range(2))
    one.call()
    other.call()

    assert _without_times(one.call()) == _without_times(other.call(Connection=GENERAL))
    assert one.call().headers["retry-after"]
    assert one.call(key="fb_live_nonsense").status == 401


def _without_times(answer: Any) -> Any:
    status, headers, document = _facts(answer)
    headers.pop("retry-after")
    return status, headers, document


# --- one connection, several calls --------------------------------------------------------------------------------


def _head(customer: Customer, first: str, *lines: str) -> bytes:
    return "\r\n".join([first, "Host: a", f"X-API-Key: {customer.issued.clear}", *lines, "", ""]).encode()


def _connect(process: Process) -> socket.socket:
    parts = urlsplit(process.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=10)


def _answers(link: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """So many answers that come on a connection, by the standard library's reading."""
    file = link.makefile("rb")
    found = []
    for _ in range(count):
        response = http.client.HTTPResponse(_Socket(file), method="GET")  # type: ignore[arg-type]
        response.begin()
        found.append((response.status, response.read()))
    return found


class _Socket:
    """A connection whose answers share one buffer."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def makefile(self, mode: str) -> Any:
        return _Unclosed(self._file)


class _Unclosed:
    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def close(self) -> None:
        """The next answer is read from it too."""


def test_calls_that_come_at_once_are_answered_in_their_order(shop: Shop) -> None:
    customer = shop.customer()
    calls = [
        _head(customer, f"GET /{SLUG}/sleep/0.2 HTTP/1.1"),
        _head(customer, f"POST /{SLUG}/status/201 HTTP/1.1", "Content-Length: 4") + b"body",
        _head(customer, f"GET /{SLUG}/status/404 HTTP/1.1"),
        _head(customer, f"GET /{SLUG}/empty HTTP/1.1"),
    ]
    with _connect(shop.gateway) as link:
        link.sendall(b"".join(calls))
        answers = _answers(link, 4)
        link.sendall(calls[1])
        answers += _answers(link, 1)

    assert answers == [(200, b"late"), (201, b"201"), (404, b"404"), (200, b""), (201, b"201")]
    assert sorted(event["status"] for event in customer.events()) == [200, 200, 201, 201, 404]


@pytest.mark.parametrize("pause_at", [0, 1, 6, 12])
def test_body_may_come_later_than_its_head(shop: Shop, pause_at: int) -> None:
    customer, body = shop.customer(), b"twelve bytes"
    with _connect(shop.gateway) as link:
        link.sendall(_head(customer, f"POST /{SLUG}/echo HTTP/1.1", "Content-Length: 12") + body[:pause_at])
        time.sleep(0.1)
        link.sendall(body[pause_at:] + _head(customer, f"GET /{SLUG}/empty HTTP/1.1"))
        (status, document), second = _answers(link, 2)

    assert (status, second) == (200, (200, b""))
    assert b'"size": 12' in document
    assert [event["in"] for event in customer.events()] == [12, 0]


def test_client_may_ask_for_the_end_of_the_connection(shop: Shop) -> None:
    customer = shop.customer()
    with _connect(shop.gateway) as link:
        link.sendall(_head(customer, f"GET /{SLUG}/status/200 HTTP/1.1", "Connection: close"))
        answer = b""
        while piece := link.recv(65_536):
            answer += piece

    assert b"connection: close\r\n" in answer
    assert answer.endswith(b"\r\n\r\n200")


def test_body_in_the_middle_of_which_the_client_leaves_is_not_billed(shop: Shop) -> None:
    customer = shop.customer()
    with _connect(shop.gateway) as link:
        link.sendall(_head(customer, f"POST /{SLUG}/echo HTTP/1.1", "Content-Length: 12") + b"twe")
        time.sleep(0.1)

    assert (customer.only_event()["qty"], customer.only_event()["reason"]) == (0, "client_gone")


# --- around it ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def behind_proxy(shop: Shop) -> Iterator[Process]:
    process = Process(FORWARDED_ALLOW_IPS="127.0.0.1,10.0.0.0/8")
    yield process.wait_until_ready()
    process.stop()


@pytest.mark.parametrize(
    ("via", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7, 10.1.2.3", "203.0.113.7"),
        ("", "127.0.0.1"),
    ],
)
def test_trusted_proxy_says_who_called(shop: Shop, behind_proxy: Process, via: str, address: str) -> None:
    customer = shop.customer()
    for connection in (USUAL, GENERAL):
        answer = customer.call(
            via=behind_proxy.api, X_Forwarded_For=via, X_Forwarded_Proto="https", Connection=connection
        )
        headers = dict(answer.json["headers"])
        assert (headers["X-Forwarded-For"], headers["X-Forwarded-Proto"]) == (address, "https")


def test_who_is_no_trusted_proxy_says_nothing(shop: Shop) -> None:
    answer = shop.customer().call(X_Forwarded_For="203.0.113.7", X_Forwarded_Proto="https")

    headers = dict(answer.json["headers"])
    assert (headers["X-Forwarded-For"], headers["X-Forwarded-Proto"]) == ("127.0.0.1", "http")


def test_gateway_that_is_stopped_finishes_a_usual_call(shop: Shop) -> None:
    customer, process = shop.customer(), Process().wait_until_ready()
    assert customer.call(via=process.api).status == 200
    shop.log()
    with _connect(process) as link:
        link.sendall(_head(customer, f"GET /{SLUG}/sleep/0.5 HTTP/1.1"))
        wait_for(lambda: "sleep" in shop.log())

        assert process.stop() in (0, -signal.SIGTERM)
        assert _answers(link, 1) == [(200, b"late")]
    assert [event["qty"] for event in customer.events()] == [1, 1]


def test_gateway_that_waits_no_longer_settles_what_it_leaves(shop: Shop) -> None:
    customer, process = shop.customer(), Process().wait_until_ready()
    shop.log()
    with _connect(process) as link:
        link.sendall(_head(customer, f"GET /{SLUG}/sleep/20 HTTP/1.1"))
        wait_for(lambda: "sleep" in shop.log())
        process.stop()

    event = customer.only_event()
    assert (event["qty"], event["reason"]) == (0, "gateway_error")


# --- what is usual ------------------------------------------------------------------------------------------------


class _Protocol:
    def forwarded(self, via: bytes | None, scheme: bytes | None) -> bytes:
        return b"X-Forwarded-Host: "


class _Catalogue:
    def __init__(self, value: RouteTable) -> None:
        self.value = value


class _Callers:
    def __init__(self, key_hash: bytes) -> None:
        self._key_hash = key_hash
        self.record = replace(record(), spans=(Span(0, 2**52, 1, ""),))

    def find_fresh(self, key_hash: bytes) -> Any:
        return self.record if key_hash == self._key_hash else None


KEY = make_key("live")
HOST, MINE = (b"host", b"a"), (b"authorization", f"Bearer {KEY}".encode())


@pytest.fixture
def catalogue(shop: Shop) -> _Catalogue:
    return _Catalogue(load_route_table())


@pytest.fixture
def lane(catalogue: _Catalogue) -> Lane:
    def find(method: str, path: str) -> Any:
        match = catalogue.value.find(method, path)
        assert match is not None
        return match.route, match.path

    return Lane(
        catalogue, _Callers(digest(KEY)), Recorder(None), Pool(guarded_socket()), find_route=find, looks=None,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture
def take(lane: Lane) -> Any:
    def taking(
        *headers: tuple[bytes, bytes], method: bytes = b"GET", url: bytes = b"/bad/echo?x=1"
    ) -> PlainCall | None:
        return lane.take(_Protocol(), method, url, headers)  # type: ignore[arg-type]

    return taking


@pytest.mark.django_db
@pytest.mark.parametrize(
    "headers",
    [
        (),
        (HOST,),
        (MINE,),
        (HOST, HOST, MINE),
        (HOST, MINE, MINE),
        (HOST, MINE, (b"x-api-key", KEY.encode())),
        (HOST, (b"authorization", b"Basic abc")),
        (HOST, (b"authorization", f"Bearer {make_key('live')}".encode())),
        (HOST, MINE, (b"transfer-encoding", b"chunked")),
        (HOST, MINE, (b"content-length", b"1"), (b"content-length", b"1")),
        (HOST, MINE, (b"content-length", b"+1")),
        (HOST, MINE, (b"content-length", b"70000")),
        (HOST, MINE, (b"expect", b"100-continue")),
        (HOST, MINE, (b"upgrade", b"websocket")),
        (HOST, MINE, (b"idempotency-key", b"a")),
        (HOST, MINE, (b"connection", b"x-mine")),
        (HOST, MINE, (b"x_forwarded_for", b"1.2.3.4")),
    ],
)
def test_what_is_not_usual_is_left_to_the_general_way(
    take: Any, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    assert take(*headers) is None


@pytest.mark.django_db
def test_usual_call_is_taken(take: Any) -> None:
    assert isinstance(take(HOST, MINE, (b"accept", b"*/*"), (b"connection", b"keep-alive")), PlainCall)
    assert isinstance(take(HOST, (b"x-api-key", KEY.encode())), PlainCall)
    assert isinstance(take(HOST, MINE, (b"content-length", b"4"), method=b"POST"), PlainCall)
    assert take(HOST, MINE, url=b"http://a/bad/echo") is None
    assert take(HOST, MINE, url=b"/bad/echo#part") is None


@pytest.mark.django_db
def test_limits_that_are_corrected_afterwards_need_the_general_way(
    take: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ready(PreparedCall):
        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **named)
            self.request = replace(self.request, daily=(Charge(1, 1, 10),))
            made.append(self)

    made: list[PreparedCall] = []
    monkeypatch.setattr(lane_module, "PreparedCall", Ready)

    assert [take(HOST, MINE) for _ in range(3)] == [None, None, None]
    assert len(made) == 1, "it is asked each time, but not made ready each time"


@pytest.mark.django_db
def test_route_that_wants_a_feature_from_now_on_is_asked_for_it_at_once(
    take: Any, catalogue: _Catalogue
) -> None:
    assert take(HOST, MINE) is not None

    entries = [entry for routes in catalogue.value._by_product.values() for entry in routes]
    catalogue.value = RouteTable([replace(entry, required_feature="history") for entry in entries])

    assert take(HOST, MINE) is None, "the general way refuses it"


@pytest.mark.django_db
def test_call_whose_admission_did_not_run_goes_the_general_way(lane: Lane) -> None:
    class Engine:
        def post(self, packed: bytes, waiter: PlainCall) -> None:
            asked.append(waiter)

    class Again(_Protocol):
        def start_over(self, call: PlainCall) -> None:
            again.append(call)

    asked, again = list[PlainCall](), list[PlainCall]()
    lane.recorder.engine = Engine()  # type: ignore[assignment]
    call = lane.take(Again(), b"GET", b"/bad/echo", (HOST, MINE))  # type: ignore[arg-type]
    assert call is not None
    call.start(b"")
    assert asked == [call]

    call.set_exception(NotSent("its slot is being moved"))

    assert again == [call]
    assert lane.live == set()


@pytest.mark.django_db
def test_call_whose_settling_breaks_is_not_held_for_ever(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    class Engine:
        def post(self, packed: bytes, waiter: PlainCall) -> None:
            """Nothing answers."""

    class Cut(_Protocol):
        def cut(self) -> None:
            cuts.append(True)

    def broken(*args: Any, **named: Any) -> None:
        raise RuntimeError

    cuts: list[bool] = []
    lane.recorder.engine = Engine()  # type: ignore[assignment]
    call = lane.take(Cut(), b"GET", b"/bad/echo", (HOST, MINE))  # type: ignore[arg-type]
    assert call is not None
    call.start(b"")
    call.disconnected = True
    monkeypatch.setattr(lane.recorder, "end_prepared", broken)

    call.set_result(struct.pack(">4Q", 1_700_000_000_000_000, 1, 9, 60) + b"epoch")

    assert cuts == [True]
    assert lane.recorder._open == {}, "it expires and gives its units back"


@pytest.mark.django_db
async def test_answer_that_is_being_settled_still_leaves_when_the_server_stops(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Engine:
        def post(self, packed: bytes, waiter: Any) -> None:
            asked.append(waiter)

    class Written(_Protocol):
        def default_lines(self) -> bytes:
            return b""

        def answered(self, call: PlainCall, answer: bytes) -> None:
            written.append(answer)

    asked, written = list[Any](), list[bytes]()
    lane.recorder.engine = Engine()  # type: ignore[assignment]

    class Silent(Connection):
        def ask(self, *args: Any, **named: Any) -> None:
            """Nothing leaves."""

    connection = Silent(asyncio.get_running_loop(), Origin("http", "a", 80), print)
    monkeypatch.setattr(lane.pool, "take", lambda origin: connection)
    monkeypatch.setattr(lane.pool, "give_back", lambda connection: None)
    call = lane.take(Written(), b"GET", b"/bad/echo", (HOST, MINE))  # type: ignore[arg-type]
    assert call is not None
    call.start(b"")
    asked[0].set_result(struct.pack(">4Q", 1_700_000_000_000_000, 1, 9, 60) + b"epoch")
    connection.status, connection.is_complete = 204, True
    call.on_answer()

    lane.stop()
    asked[1].set_result(b"SETTLED 1")

    assert [answer[:12] for answer in written] == [b"HTTP/1.1 204"]


@pytest.mark.django_db
def test_long_paths_of_strangers_are_not_remembered(take: Any, lane: Lane) -> None:
    stranger = (b"authorization", f"Bearer {make_key('live')}".encode())
    long = b"/bad/echo/" + b"a" * 20_000

    for i in range(10):
        assert take(HOST, stranger, url=b"%b%d" % (long, i)) is None
    assert sum(map(len, lane._places)) < 20_000

    assert isinstance(take(HOST, MINE, url=long), PlainCall), "it is taken all the same"


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        (b"accept", True), (b"x-anything", True), (b"cookie", True), (b"x-farebox-plan", False), (b"x-request-id", False),
        (b"forwarded", False), (b"x-forwarded-host", False), (b"te", False), (b"keep-alive", False),
        (b"proxy-authorization", False), (b"x_farebox_plan", False), (b"authorization", False),
    ],
)  # fmt: skip
def test_only_end_to_end_headers_pass(name: bytes, passes: bool) -> None:
    assert (kind_of(name) == 0) is passes
