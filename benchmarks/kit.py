"""What the parts of `make bench` share: servers that live as long as a block, targets under load, and how figures are told."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from statistics import median

from benchmarks.load import CONNECTIONS, Load, load
from deploy.local.ports import free_port

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 3
UVICORN = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
OWNER_KEY = "owner-key-of-the-benchmark"
TICK = os.sysconf("SC_CLK_TCK")


def tell(name: str, value: float, unit: str, *, digits: int = 0, asked: str = "") -> None:
    """One line, with what issue or plan asks for beside it."""
    print(f"{name} {value:.{digits}f} {unit}" + (f" (asked: {asked})" if asked else ""), flush=True)


def warn(text: str) -> None:
    """A line that nobody reads over: something was not measured, or not as it should be."""
    print(f"!!! NOT MEASURED: {text}", file=sys.stderr, flush=True)


@dataclass
class Target:
    """One address under load, and the process that serves it."""

    name: str
    url: str
    headers: dict[str, str]
    pid: int
    body: str = ""
    connections: int = CONNECTIONS
    rounds: list[Load] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # microseconds of the server's processes a call, by round

    def run(self, seconds: float) -> None:
        """One round under full load."""
        before = cpu_seconds(self.pid)
        done = load(self.url, self.headers, seconds, body=self.body, connections=self.connections)
        self.rounds.append(done)
        self.cpu.append((cpu_seconds(self.pid) - before) / done.count * 1_000_000)

    def middle(self, figure: str) -> float:
        return float(median(getattr(one, figure) for one in self.rounds))

    @property
    def calls(self) -> float:
        return self.middle("calls")

    @property
    def cpu_per_call(self) -> float:
        return median(self.cpu)

    def report(self) -> None:
        tell(self.name, self.calls, "calls/s")
        tell(f"{self.name}_p50", self.middle("p50"), "ms", digits=2)
        tell(f"{self.name}_p99", self.middle("p99"), "ms", digits=2)
        tell(f"{self.name}_cpu_per_call", self.cpu_per_call, "us", digits=1)
        tell(f"{self.name}_memory", memory_mb(self.pid), "MB")


def take_turns(targets: Sequence[Target], seconds: float) -> None:
    """A short round to warm each, then rounds that take turns, so that a busy machine is busy for all."""
    for target in targets:
        load(target.url, target.headers, 1, body=target.body)
    for _ in range(ROUNDS):
        for target in targets:
            target.run(seconds)
            forget_calls()


@contextmanager
def serving(argv: Sequence[str], ready: str, **environment: str) -> Iterator[int]:
    """A Python server until the block ends: its process id."""
    with running([sys.executable, "-m", *argv], ready, **environment) as pid:
        yield pid


@contextmanager
def running(argv: Sequence[str], ready: str, **environment: str) -> Iterator[int]:
    """Any server until the block ends, ready when this address is answered: its process id."""
    process = subprocess.Popen(argv, cwd=ROOT, env=os.environ | {"LOG_LEVEL": "ERROR"} | environment)
    try:
        _wait_until_answered(process, ready)
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def serving_upstream() -> Iterator[tuple[str, int]]:
    """The bare API: its address and process."""
    url = f"http://127.0.0.1:{free_port()}"
    argv = ["uvicorn", "benchmarks.peer.upstream:app", *port_of(url), "--lifespan", "off", *UVICORN]
    with serving(argv, url) as pid:
        yield url, pid


@contextmanager
def serving_gateway(*, workers: int = 1) -> Iterator[tuple[str, int]]:
    """The gateway as it is deployed: its address and process (with more workers, that of their parent)."""
    url = f"http://127.0.0.1:{free_port()}"
    argv = [
        "uvicorn",
        "gateway.app:app",
        *port_of(url),
        *UVICORN,
        "--http",
        "gateway.protocol:GuardedProtocol",
    ]
    argv += ["--workers", str(workers)] if workers > 1 else []
    with serving(
        argv, f"{url}/readyz", DJANGO_SETTINGS_MODULE="config.settings", ADMIN_API_KEY=OWNER_KEY
    ) as pid:
        yield url, pid


def port_of(url: str) -> list[str]:
    return ["--port", url.rpartition(":")[2]]


def _wait_until_answered(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500:
                return
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"no answer from {url}")
        time.sleep(0.1)


def family(pid: int) -> list[int]:
    """A process and all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


def memory_mb(pid: int) -> float:
    """Resident memory of a server and its workers."""
    return sum(rss_kb(one) for one in family(pid)) / 1024


def rss_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def descriptors(pid: int) -> int:
    """Open files and sockets of one process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pid: int) -> float:
    """Time on a CPU, user and system, of a server and its workers so far."""
    return sum(_ticks(one) for one in family(pid)) / TICK


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def sell(slug: str, upstream_url: str, path: str = "/answer") -> None:
    """A product whose one route leads there."""
    from tests.factories import create_product, create_route

    create_route(create_product(slug, upstream_url=upstream_url), path)


def sign_up(slug: str) -> str:
    """A customer of a plan of this name, without a limit in its way: the key in clear."""
    from tests.factories import create_key, create_organization, create_plan

    version = create_plan(f"bench-{slug}", per_minute=10_000_000, included=Decimal(10**9))
    return create_key(organization=create_organization(plan=version.plan.slug)).clear


def settled_events() -> int:
    """How many events wait in the streams."""
    from core.redis import usage_redis
    from core.redis_layout import SHARDS, stream_key

    with usage_redis().pipeline(transaction=False) as pipeline:
        for shard in range(SHARDS):
            pipeline.xlen(stream_key(shard))
        return sum(pipeline.execute())


def forget_calls() -> None:
    """Take events and markers of settled calls out of Redis: nothing drains here, and every round shall find it the same."""
    from core.redis import usage_redis
    from core.redis_layout import LAYOUT, SHARDS, stream_key

    client = usage_redis()
    for shard in range(SHARDS):
        client.unlink(stream_key(shard))
    names: list[bytes] = []
    for name in client.scan_iter(f"{LAYOUT}:*:done:*", count=10_000):
        names.append(name)
        if len(names) == 1000:
            client.unlink(*names)
            names.clear()
    if names:
        client.unlink(*names)
