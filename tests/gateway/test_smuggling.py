"""Requests that two servers could read differently, and heads without end or in no hurry (STACK.md, R23): none is passed
on, each connection is closed within 10 s, and the worker's memory stays where it was.
"""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from tests.gateway.kit import Customer, Process, Shop

Record = Callable[[str, object], None]
MIB = 1024 * 1024
CLOSED_WITHIN = 11.0  # seconds; 10 of them are a head's
HIDDEN = b"GET /bad/chunked HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer KEY\r\n\r\n"
POST = b"POST /bad/echo HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer KEY\r\n"
GET = b"GET /bad/echo HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer KEY\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
NO_CHUNKS = b"0\r\n\r\n"
# Each is refused as a whole: nothing of it may reach the upstream, nor what hides behind it.
SHAPES = {
    "length and chunked": POST + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n" + NO_CHUNKS + HIDDEN,
    "chunked and length": POST + CHUNKED + b"Content-Length: 5\r\n\r\n" + NO_CHUNKS + HIDDEN,
    "chunked and length 0": POST + CHUNKED + b"Content-Length: 0\r\n\r\n" + NO_CHUNKS + HIDDEN,
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 70\r\n\r\n" + HIDDEN,
    "two equal lengths": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab" + HIDDEN,
    "lengths in a list": POST + b"Content-Length: 2, 2\r\n\r\nab" + HIDDEN,
    "length with a sign": POST + b"Content-Length: +2\r\n\r\nab" + HIDDEN,
    "length below zero": POST + b"Content-Length: -2\r\n\r\nab" + HIDDEN,
    "length in hexadecimal": POST + b"Content-Length: 0x2\r\n\r\nab" + HIDDEN,
    "length with an underscore": POST + b"Content-Length: 1_0\r\n\r\nabcdefghij" + HIDDEN,
    "length of other digits": POST + "Content-Length: ٢\r\n\r\nab".encode() + HIDDEN,
    "length beyond counting": POST + b"Content-Length: 18446744073709551618\r\n\r\nab" + HIDDEN,
    "empty length": POST + b"Content-Length: \r\n\r\nab" + HIDDEN,
    "length with a space before the colon": POST + b"Content-Length : 2\r\n\r\nab" + HIDDEN,
    "length after a folded line": POST + b"X: a\r\n Content-Length: 2\r\n\r\nab" + HIDDEN,
    "length after a tab": POST + b"\tContent-Length: 2\r\n\r\nab" + HIDDEN,
    "length behind a bare CR": POST + b"X: a\rContent-Length: 2\r\n\r\nab" + HIDDEN,
    "length behind a NUL": POST + b"X: a\x00Content-Length: 2\r\n\r\nab" + HIDDEN,
    "chunked behind a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + NO_CHUNKS + HIDDEN,
    "chunked with a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n" + NO_CHUNKS + HIDDEN,
    "chunked with a letter before": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + NO_CHUNKS + HIDDEN,
    "chunked twice": POST + CHUNKED + CHUNKED + b"\r\n" + NO_CHUNKS + HIDDEN,
    "chunked and identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + NO_CHUNKS + HIDDEN,
    "identity and chunked": POST + b"Transfer-Encoding: identity\r\n" + CHUNKED + b"\r\n" + NO_CHUNKS + HIDDEN,
    "gzip and chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + NO_CHUNKS + HIDDEN,
    "chunked quoted": POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + NO_CHUNKS + HIDDEN,
    "chunked in HTTP/1.0": POST.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n" + NO_CHUNKS + HIDDEN,
    "chunked in an underscore": POST + b"Content-Length: 5\r\nTransfer_Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n" + NO_CHUNKS + HIDDEN,
    "chunk's length with a sign": POST + CHUNKED + b"\r\n+2\r\nab\r\n" + NO_CHUNKS + HIDDEN,
    "chunk's length in 0x": POST + CHUNKED + b"\r\n0x2\r\nab\r\n" + NO_CHUNKS + HIDDEN,
    "chunk's length below zero": POST + CHUNKED + b"\r\n-2\r\nab\r\n" + NO_CHUNKS + HIDDEN,
    "chunk's length beyond counting": POST + CHUNKED + b"\r\n10000000000000002\r\nab\r\n" + NO_CHUNKS + HIDDEN,
    "chunk that ends without a line": POST + CHUNKED + b"\r\n2\r\nabcd\r\n" + NO_CHUNKS + HIDDEN,
    "chunk's end of other characters": POST + CHUNKED + b"\r\n2\r\nabXX" + NO_CHUNKS + HIDDEN,
    "two hosts": POST + b"Host: b\r\nContent-Length: 0\r\n\r\n",
    "no host": POST.replace(b"Host: a\r\n", b"") + b"Content-Length: 0\r\n\r\n",
    "host with a space before the colon": GET.replace(b"Host:", b"Host :") + b"\r\n",
    "two keys": GET + b"Authorization: Bearer other\r\n\r\n",
    "header without a colon": GET + b"Nonsense\r\n\r\n",
    "header without a name": GET + b": nothing\r\n\r\n",
    "name with a space": GET + b"X Y: 1\r\n\r\n",
    "bare CR in a value": GET + b"X: a\rY: b\r\n\r\n",
    "NUL in a value": GET + b"X: a\x00b\r\n\r\n",
    "space before the first header": GET.replace(b"\r\nHost", b"\r\n Host") + b"\r\n",
    "no version": GET.replace(b" HTTP/1.1", b"") + b"\r\n",
    "version 1.2": GET.replace(b"HTTP/1.1", b"HTTP/1.2") + b"\r\n",
    "version 2.0": GET.replace(b"HTTP/1.1", b"HTTP/2.0") + b"\r\n",
    "version 11": GET.replace(b"HTTP/1.1", b"HTTP/11") + b"\r\n",
    "version in small letters": GET.replace(b"HTTP/1.1", b"http/1.1") + b"\r\n",
    "no such method": GET.replace(b"GET", b"G\xcbT") + b"\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
    "a NUL in the path": GET.replace(b"/echo", b"/ec\x00ho") + b"\r\n",
    "dots in the path": GET.replace(b"/echo", b"/../bad/echo") + b"\r\n",
    "dots in percents": GET.replace(b"/echo", b"/%2e%2e/bad/echo") + b"\r\n",
    "all of the line in percents": GET.replace(b"/echo", b"/echo%20HTTP/1.1%0d%0aHost:%20b%0d%0a%0d%0a/..") + b"\r\n",
    "CONNECT": b"CONNECT upstream:80 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer KEY\r\n\r\n" + HIDDEN,
}  # fmt: skip


@pytest.fixture(scope="module")
def worker(shop: Shop) -> Iterator[Process]:
    """Of its own, whose memory nobody else fills."""
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
    return socket.create_connection((parts.hostname, parts.port), timeout=CLOSED_WITHIN + 5)


def all_of(link: socket.socket) -> bytes:
    """What comes until the connection is closed."""
    said = b""
    with suppress(ConnectionResetError):
        while piece := link.recv(65_536):
            said += piece
    return said


def until_silent(link: socket.socket) -> bytes:
    """What comes until the connection is closed, or is quiet for a second after an answer."""
    said = b""
    with suppress(ConnectionResetError, TimeoutError):
        while piece := link.recv(65_536):
            said += piece
            link.settimeout(1)
    return said


def statuses(said: bytes) -> list[int]:
    return [int(number) for number in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_of_smuggling_are_refused(
    shop: Shop, worker: Process, customer: Customer, name: str, record_property: Record
) -> None:
    """One answer, which says no; then the connection ends, or is silent."""
    sent = SHAPES[name].replace(b"KEY", customer.issued.clear.encode())
    with connect(worker) as link:
        link.sendall(sent)
        said = until_silent(link)
    answers, seen = statuses(said), shop.log()

    record_property("shapes", 1)
    record_property("accepted", len(seen) + sum(status < 400 for status in answers))
    assert seen == []
    assert all(400 <= status < 500 for status in answers), answers
    assert len(answers) == 1, said
    assert customer.events() == []


def test_a_plain_request_of_that_form_is_accepted(shop: Shop, worker: Process, customer: Customer) -> None:
    """What refuses the shapes is their fault, not the key or the way they are sent."""
    key = customer.issued.clear.encode()
    with connect(worker) as link:
        link.sendall((POST + b"Content-Length: 2\r\n\r\nab" + HIDDEN.replace(b"Host", b"Connection: close\r\nHost")).replace(b"KEY", key))  # fmt: skip
        assert statuses(all_of(link)) == [200, 200]
    assert shop.log() == ["echo", "chunked"]


def test_only_the_head_decides_where_a_request_ends(shop: Shop, worker: Process, customer: Customer) -> None:
    """What stands in a body is never a request, whatever it looks like."""
    hidden = HIDDEN.replace(b"KEY", customer.issued.clear.encode())
    bodies = [
        b"Content-Length: %d\r\n\r\n%b" % (len(hidden), hidden),
        CHUNKED + b"\r\n%x\r\n%b\r\n%b" % (len(hidden), hidden, NO_CHUNKS),
        CHUNKED + b"\r\n%x;a=b\r\n%b\r\n%b" % (len(hidden), hidden, NO_CHUNKS),
    ]
    for body in bodies:
        with connect(worker) as link:
            link.sendall(
                (POST + b"Connection: close\r\n").replace(b"KEY", customer.issued.clear.encode()) + body
            )
            assert statuses(all_of(link)) == [200]
        assert shop.log() == ["echo"]


# --- heads without end, and heads in no hurry ------------------------------------------------------------------------


def flood(worker: Process, head: bytes, piece: bytes, times: int) -> tuple[float, bytes, int]:
    """Send until the gateway closes: after how many seconds it did, what it said, how many bytes it took."""
    started, sent = time.monotonic(), 0
    with connect(worker) as link:
        try:
            link.sendall(head)
            for _ in range(times):
                link.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
        said = b""
        with suppress(OSError):
            said = all_of(link)
    return time.monotonic() - started, said, sent


@pytest.mark.parametrize(
    ("piece", "times"),
    [(b"x" * 65_536, 1024), (b"X-Line: 1\r\n", 10_000), (b"X-Line: " + b"1" * 1_000 + b"\r\n", 65_536)],
    ids=["one header of 64 MB", "10,000 lines", "64 MB of lines"],
)
def test_heads_without_end_are_cut_short_and_leave_no_memory_behind(
    worker: Process, customer: Customer, shop: Shop, piece: bytes, times: int, record_property: Record
) -> None:
    assert customer.call(via=worker.api).status == 200  # everything that a first call loads is loaded
    shop.log()
    before, most = worker.rss_kb(), 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.02):
            most = max(most, worker.rss_kb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        heads = [
            flood(worker, GET + (b"" if piece.startswith(b"X-") else b"X-Endless: "), piece, times)
            for _ in range(3)
        ]
    finally:
        done.set()
        watcher.join()
    grown_kb = max(most - before, 0)
    record_property("floods", len(heads))
    record_property("flood_slowest_ms", int(max(seconds for seconds, *_ in heads) * 1000))
    record_property("memory_kb", grown_kb)
    for seconds, said, sent in heads:
        assert seconds < CLOSED_WITHIN
        assert statuses(said) in ([], [431])  # an answer may be lost where the client goes on sending
        assert sent < 8 * MIB
    assert grown_kb <= 20 * 1024
    assert shop.log() == []


def test_slow_heads_end_in_time(
    worker: Process, customer: Customer, shop: Shop, record_property: Record
) -> None:
    """A hundred connections that say a byte now and then, some nothing at all, others stop half way."""
    links = [connect(worker) for _ in range(100)]
    before, started = worker.rss_kb(), time.monotonic()
    head = GET.replace(b"KEY", customer.issued.clear.encode())
    ended: dict[int, float] = {}
    for link in links:
        link.setblocking(False)
    for number in range(200):
        for index, link in enumerate(links):
            if index in ended:
                continue
            try:
                if index % 3 == 0 or (index % 3 == 1 and number == 0):
                    link.send(head[number : number + 1] if index % 3 == 0 else head)
                if link.recv(65_536) == b"":
                    ended[index] = time.monotonic() - started
            except BlockingIOError:
                pass
            except OSError:
                ended[index] = time.monotonic() - started
        if len(ended) == len(links):
            break
        time.sleep(0.1)
    grown_kb = max(worker.rss_kb() - before, 0)
    for link in links:
        link.close()
    record_property("slow_heads", len(links))
    record_property("slow_closed", len(ended))
    record_property("slow_slowest_ms", int(max(ended.values(), default=0) * 1000))
    record_property("memory_kb", grown_kb)
    assert len(ended) == len(links)
    assert max(ended.values()) < CLOSED_WITHIN + 1  # the rounds of this loop
    assert grown_kb <= 20 * 1024
    assert shop.log() == []
