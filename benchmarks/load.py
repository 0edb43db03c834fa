"""Load on one address of this machine: by `wrk` where it is installed, else by a small generator of ours."""

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any
from urllib.parse import urlsplit

import httptools

WRK = shutil.which("wrk")
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Measured:
    """What a run showed; `failed`: answers other than 2xx and 3xx, and broken connections."""

    answered: int
    failed: int
    rate: float
    p50_ms: float
    p99_ms: float


def put_load(url: str, headers: Mapping[str, str], *, seconds: int, connections: int) -> Measured:
    """Ask `url` again and again over so many kept-alive connections. Loopback only: it is meant for our own machine."""
    if urlsplit(url).hostname != "127.0.0.1":
        raise ValueError("load goes to 127.0.0.1 only")
    if WRK is not None:
        return _by_wrk(url, headers, seconds, connections)
    return asyncio.run(_by_ourselves(url, headers, seconds, connections))


def _by_wrk(url: str, headers: Mapping[str, str], seconds: int, connections: int) -> Measured:
    sent = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    argv = [str(WRK), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency", *sent, url]
    report = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    failed = re.findall(r"Non-2xx or 3xx responses: (\d+)", report)
    for line in re.findall(r"Socket errors: (.*)", report):
        failed += re.findall(r"\d+", line)
    return Measured(
        answered=int(_found(r"(\d+) requests in", report)[0]),
        failed=sum(int(number) for number in failed),
        rate=float(_found(r"Requests/sec:\s+([\d.]+)", report)[0]),
        p50_ms=_latency(report, "50%"),
        p99_ms=_latency(report, "99%"),
    )


def _latency(report: str, share: str) -> float:
    value, unit = _found(rf"{share}\s+([\d.]+)(us|ms|s|m)\b", report)
    return float(value) * _MILLISECONDS[unit]


def _found(pattern: str, report: str) -> tuple[str, ...]:
    match = re.search(pattern, report)
    if match is None:
        raise ValueError(f"wrk said something unexpected:\n{report}")
    return match.groups()


@dataclass
class _Run:
    """One run of our own generator."""

    request: bytes
    stop_at: float
    latencies: list[float] = field(default_factory=list)
    failed: int = 0


async def _by_ourselves(url: str, headers: Mapping[str, str], seconds: int, connections: int) -> Measured:
    parts = urlsplit(url)
    lines = [f"GET {parts.path or '/'} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    run = _Run("\r\n".join([*lines, "", ""]).encode(), time.perf_counter() + seconds)
    loop = asyncio.get_running_loop()
    clients = [_Client(run, loop.create_future()) for _ in range(connections)]
    for client in clients:
        await loop.create_connection(lambda made=client: made, parts.hostname, parts.port)  # type: ignore[misc]
    await asyncio.wait_for(asyncio.gather(*[client.ended for client in clients]), seconds + 30)
    if len(run.latencies) < 2:
        raise ValueError(f"{url} gave no answers")
    cuts = quantiles(run.latencies, n=100)
    answered = len(run.latencies)
    return Measured(answered, run.failed, answered / seconds, cuts[49] * 1000, cuts[98] * 1000)


class _Client(asyncio.Protocol):
    """One connection that asks the next as soon as it has an answer."""

    def __init__(self, run: _Run, ended: "asyncio.Future[None]") -> None:
        self.run, self.ended = run, ended
        self._parser: Any = None
        self._transport: Any = None
        self._asked_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.run.failed += 1
            self.ended.set_result(None)

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        self.run.latencies.append(now - self._asked_at)
        self.run.failed += self._parser.get_status_code() >= 400
        if now < self.run.stop_at:
            asyncio.get_running_loop().call_soon(self._ask)  # a parser must not be replaced while it parses
        else:
            self.ended.set_result(None)
            self._transport.close()

    def _ask(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._asked_at = time.perf_counter()
        self._transport.write(self.run.request)
