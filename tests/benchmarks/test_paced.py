"""The paced client charges a server's stall to all calls that were due meanwhile."""

import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from benchmarks.paced import NotKept, paced

BODY = b'{"ok":true}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Server:
    """Answers calls one after the other; `before` is called with the number of each."""

    def __init__(self, before: Callable[[int], None], answer: bytes = ANSWER) -> None:
        self._before, self._answer, self._calls = before, answer, 0
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._stopping = False
        self._thread = threading.Thread(target=self._serve)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping = True
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            opened: list[socket.socket] = []
            while not self._stopping:
                for key, _ in selector.select(0.05):
                    if key.fileobj is self._socket:
                        opened.append(self._socket.accept()[0])
                        selector.register(opened[-1], selectors.EVENT_READ)
                        continue
                    connection = key.fileobj
                    assert isinstance(connection, socket.socket)
                    if not connection.recv(65_536):
                        selector.unregister(connection)
                        continue
                    self._before(self._calls)
                    self._calls += 1
                    connection.sendall(self._answer)
            for connection in opened:
                connection.close()


@pytest.fixture
def stalling() -> Iterator[Server]:
    """Stands still once, for 300 ms."""
    with Server(lambda number: time.sleep(0.3 if number == 50 else 0)) as server:
        yield server


def test_a_stall_counts_for_every_call_that_was_due(stalling: Server) -> None:
    times = paced(stalling.url, {}, rate=200, seconds=1, ending=BODY)
    assert times.calls == 200
    assert times.p99 > 200  # of one call in 200 a client that waits for answers would have told 99 % nothing
    assert times.p50 < 200


def test_an_even_server_is_told_as_such() -> None:
    with Server(lambda number: None) as server:
        times = paced(server.url, {"X-Test": "1"}, rate=100, seconds=0.5, ending=BODY)
    assert times.calls == 50
    assert 0 < times.p50 < 100


def test_answers_that_are_none_end_the_measurement() -> None:
    refusal = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
    with Server(lambda number: None, refusal) as server, pytest.raises(NotKept, match="503"):
        paced(server.url, {}, rate=50, seconds=0.2, ending=BODY)
