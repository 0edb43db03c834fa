"""Calls at a steady rate, whether or not the earlier ones were answered (an open loop).

A call's time begins when it was due, not when a connection was free to send it: a server that stalls is charged with the calls
that had to wait meanwhile (no coordinated omission). One thread, blocking `select` with microseconds: pacing in an event loop
would round every call to a millisecond.
"""

import gc
import select
import socket
import time
from collections import deque
from dataclasses import dataclass
from statistics import quantiles
from urllib.parse import urlsplit

CONNECTIONS = 64
PATIENCE = 10.0


class NotKept(Exception):
    """Calls failed, or so many were unanswered at the end that the rate was no rate."""


@dataclass(frozen=True)
class Times:
    """Milliseconds that half and 99 of 100 calls stay below, from the moment at which each was due."""

    p50: float
    p99: float
    calls: int


def paced(url: str, headers: dict[str, str], *, rate: float, seconds: float, ending: bytes) -> Times:
    """Call for so many seconds at `rate` a second; every answer's last bytes are `ending`. Raises NotKept."""
    client = _Client(url, headers, ending)
    gc.disable()  # no pause of ours in anybody's figure
    try:
        times = client.run(int(rate * seconds), 1 / rate)
    finally:
        gc.enable()
        client.close()
    cuts = quantiles(times, n=100)
    return Times(cuts[49] * 1000, cuts[98] * 1000, len(times))


class _Client:
    def __init__(self, url: str, headers: dict[str, str], ending: bytes) -> None:
        parts = urlsplit(url)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{lines}\r\n".encode()
        self._ending = ending
        self._free = deque(
            socket.create_connection((parts.hostname, parts.port or 80)) for _ in range(CONNECTIONS)
        )
        self._busy: dict[socket.socket, float] = {}
        self._read: dict[socket.socket, bytes] = {}
        for one in self._free:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        for one in (*self._free, *self._busy):
            one.close()

    def run(self, calls: int, step: float) -> list[float]:
        """Seconds of every call."""
        times: list[float] = []
        waiting: deque[float] = deque()
        made, start = 0, time.perf_counter()
        while len(times) < calls:
            at = time.perf_counter()
            while made < calls and start + made * step <= at:
                waiting.append(start + made * step)
                made += 1
            while waiting and self._free:
                self._send(waiting.popleft())
            pause = max(0.0, start + made * step - time.perf_counter()) if made < calls else 1.0
            for one in select.select(self._busy, (), (), pause)[0]:
                self._receive(one, times)
            if at > start + calls * step + PATIENCE:
                raise NotKept(f"{calls - len(times)} of {calls} calls had no answer")
        return times

    def _send(self, due: float) -> None:
        connection = self._free.pop()
        connection.sendall(self._request)
        self._busy[connection] = due

    def _receive(self, connection: socket.socket, times: list[float]) -> None:
        data = self._read.pop(connection, b"") + connection.recv(65_536)
        if not data.startswith(b"HTTP/1.1 200"):
            raise NotKept(data[:200].decode("latin-1") or "the server closed a connection")
        if not data.endswith(self._ending):
            self._read[connection] = data
            return
        times.append(time.perf_counter() - self._busy.pop(connection))
        self._free.append(connection)
