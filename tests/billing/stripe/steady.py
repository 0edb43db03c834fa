"""Steady calls on a gateway: so many clients, each calling at its own beat, and how long each answer took."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from urllib.parse import urlsplit

CLIENTS, EVERY_SECONDS = 8, 0.1


@dataclass
class Calls:
    """`seconds` of the calls that passed; `refused`: all other answers by status (0: no answer)."""

    seconds: list[float] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)

    def add(self, other: "Calls") -> None:
        self.seconds += other.seconds
        self.refused += other.refused

    @property
    def p50(self) -> float:
        return quantiles(self.seconds, n=100)[49] * 1000

    @property
    def p99(self) -> float:
        """Milliseconds that 99 of 100 calls stay below."""
        return quantiles(self.seconds, n=100)[98] * 1000


def call_steadily(url: str, keys: Sequence[str], seconds: float) -> Calls:
    """Call for so long: CLIENTS connections in turn with these keys, ten calls a second each."""
    calls = Calls()
    asyncio.run(_all(url, keys, time.perf_counter() + seconds, calls))
    return calls


async def _all(url: str, keys: Sequence[str], until: float, calls: Calls) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(
                _client(url, keys[number % len(keys)], number * EVERY_SECONDS / CLIENTS, until, calls)
            )


async def _client(url: str, key: str, wait: float, until: float, calls: Calls) -> None:
    parts = urlsplit(url)
    head = (
        f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    )
    await asyncio.sleep(wait)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    due = time.perf_counter()
    while due < until:
        began = time.perf_counter()
        try:
            status = await asyncio.wait_for(_call(reader, writer, head), 30)
        except (OSError, EOFError, ValueError, TimeoutError):
            status = 0
            writer.close()
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        if status == 200:
            calls.seconds.append(time.perf_counter() - began)
        else:
            calls.refused[status] += 1
        due = max(due + EVERY_SECONDS, time.perf_counter() - EVERY_SECONDS)
        await asyncio.sleep(max(due - time.perf_counter(), 0))
    writer.close()
    await writer.wait_closed()


async def _call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    """The status, after the whole answer has come."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    if length is None:
        raise ValueError("an answer without its length")
    await reader.readexactly(int(length[1]))
    return int(head[9:12])
