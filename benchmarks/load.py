"""Load on one address, by wrk when it is installed, else by clients of our own (slower, so its figures are lower bounds)."""

import asyncio
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from statistics import quantiles
from tempfile import NamedTemporaryFile
from urllib.parse import urlsplit

CONNECTIONS = 32
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True)
class Load:
    """Calls a second, times in milliseconds that half and 99 of 100 calls stay below, and how many calls there were."""

    calls: float
    p50: float
    p99: float
    count: int


class CallsFailed(Exception):
    """Some answers were not 2xx: the figures would mean something else."""


def load(
    url: str, headers: dict[str, str], seconds: float, *, body: str = "", connections: int = CONNECTIONS
) -> Load:
    """Call it as fast as it answers; with a body by POST. Raises CallsFailed."""
    if wrk := shutil.which("wrk"):
        return _by_wrk(wrk, url, headers, seconds, body, connections)
    return asyncio.run(_by_clients(url, headers, seconds, body=body, connections=connections))


def _by_wrk(wrk: str, url: str, headers: dict[str, str], seconds: float, body: str, connections: int) -> Load:
    lines = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    command = [wrk, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", *lines]
    with NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f"wrk.method, wrk.body = 'POST', [[{body}]]" if body else "")
        script.flush()
        command += ["-s", script.name] if body else []
        output = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        raise CallsFailed(f"{url}: {output}")
    calls = re.search(r"Requests/sec:\s+([\d.]+)", output)
    count = re.search(r"(\d+) requests in", output)
    assert calls is not None, output
    assert count is not None, output
    return Load(float(calls[1]), _percentile(output, 50), _percentile(output, 99), int(count[1]))


def _percentile(output: str, share: int) -> float:
    found = re.search(rf"{share}%\s+([\d.]+)(us|ms|s)", output)
    assert found is not None, output
    return float(found[1]) * _UNITS[found[2]]


async def _by_clients(
    url: str, headers: dict[str, str], seconds: float, *, body: str, connections: int
) -> Load:
    parts, times = urlsplit(url), list[float]()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    first = f"{'POST' if body else 'GET'} {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{lines}"
    length = f"Content-Length: {len(body.encode())}\r\n" if body else ""
    request = f"{first}{length}\r\n{body}".encode()
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(
                _client(parts.hostname or "", parts.port or 80, request, started + seconds, times)
            )
    cuts = quantiles(times, n=100)
    return Load(len(times) / (time.perf_counter() - started), cuts[49] * 1000, cuts[98] * 1000, len(times))


async def _client(host: str, port: int, request: bytes, until: float, times: list[float]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        while (began := time.perf_counter()) < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            if not head.startswith(b"HTTP/1.1 2") or length is None:
                raise CallsFailed(head.decode("latin-1"))
            await reader.readexactly(int(length[1]))
            times.append(time.perf_counter() - began)
    finally:
        writer.close()
        await writer.wait_closed()
