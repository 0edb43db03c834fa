"""`make bench`: how fast the doors are, as ratios within one run. One figure a line: name value unit.

    upstream   a bare ASGI answer by one uvicorn worker
    gateway    the same behind the gateway, one worker: key, admission, proxying, event in the stream
    drf        the same document as a DRF view behind the DRF door, two gunicorn workers, all middleware of the portal
    peer       the same DRF view guarded by djangorestframework-api-key and a Redis counter, two gunicorn workers

Everything runs on this machine and shares its cores with the load, so absolute figures are lower than they would be alone;
rounds alternate between the targets, so that a busy neighbour hits all of them. Needs DATABASE_URL and REDIS_URL of servers
that hold nothing of value (`make bench` starts such); calls that are not metered make it fail.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.load import Measured, put_load
from deploy.local import programs
from deploy.local.ports import free_port
from deploy.local.process import Program, spawn, stop, wait_ready
from deploy.local.programs import Ports

ROOT = Path(__file__).resolve().parents[1]
WORKERS = 2  # of gunicorn, on both sides


@dataclass
class Target:
    """Something that is measured, and what was measured of it."""

    name: str
    url: str
    headers: Mapping[str, str]
    pid: int
    rounds: list[Measured] = field(default_factory=list)
    memory_kb: int = 0

    def figures(self) -> Iterator[str]:
        yield f"{self.name}_rate {self.rate:.0f} calls/s"
        yield f"{self.name}_p50 {median(r.p50_ms for r in self.rounds):.2f} ms"
        yield f"{self.name}_p99 {median(r.p99_ms for r in self.rounds):.2f} ms"
        yield f"{self.name}_memory {self.memory_kb / 1024:.0f} MB"

    @property
    def rate(self) -> float:
        return median(r.rate for r in self.rounds)

    @property
    def answered(self) -> int:
        return sum(r.answered for r in self.rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=4, help="of load a round and target (4)")
    parser.add_argument("--rounds", type=int, default=3, help="per target (3)")
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="farebox-bench-") as name, ExitStack() as stack:
        targets = _start(Path(name), stack)
        before = _metered_calls()
        for _ in range(options.rounds):
            for target in targets.values():
                _measure(target, options.seconds, options.connections)
        _check_metered(_metered_calls() - before, targets)
        for target in targets.values():
            print(*target.figures(), sep="\n")
    print(f"gateway_vs_upstream {targets['gateway'].rate / targets['upstream'].rate:.2f} ratio")
    print(f"drf_vs_api_key_package {targets['drf'].rate / targets['peer'].rate:.2f} ratio", flush=True)
    for module in ("benchmarks.scripts", "benchmarks.drain"):
        subprocess.run([sys.executable, "-m", module], cwd=ROOT, check=True)


def _start(folder: Path, stack: ExitStack) -> dict[str, Target]:
    """All targets, up and warm."""
    ports = Ports(web=free_port(), gateway=free_port(), upstream=free_port())
    env = {
        "DJANGO_SETTINGS_MODULE": "config.settings", "LOG_LEVEL": "WARNING", "HTTPS_ONLY": "0", "DEBUG": "0",
        "FAREBOX_MAILBOX": "0", "STATICFILES_BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage",
    }  # fmt: skip
    os.environ.update(env)
    key = {"Authorization": f"Bearer {_sell(ports.upstream_url)}"}
    peer = subprocess.run(
        [sys.executable, "-m", "benchmarks.peer.make_key"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    peer_key = {"Authorization": f"Api-Key {peer.stdout.strip()}"}
    peer_port = free_port()
    started = [
        (_upstream(ports.upstream), f"{ports.upstream_url}/answer", {}),
        (programs.gateway(ports, {}, reload=False), f"{ports.gateway_url}/bench/answer", key),
        (_gunicorn("drf", "benchmarks.door.wsgi", ports.web), f"{ports.portal_url}/answer", key),
        (_gunicorn("peer", "benchmarks.peer.wsgi", peer_port), f"http://127.0.0.1:{peer_port}/answer", peer_key),
    ]  # fmt: skip
    targets = {}
    for program, url, headers in started:
        pid = stack.enter_context(_running(program, folder / f"{program.name}.log"))
        targets[program.name] = Target(program.name, url, headers, pid)
        put_load(url, headers, seconds=1, connections=8)
    return targets


def _measure(target: Target, seconds: int, connections: int) -> None:
    measured = put_load(target.url, target.headers, seconds=seconds, connections=connections)
    if measured.failed:
        raise SystemExit(f"{measured.failed} of {measured.answered} calls of {target.name} failed")
    target.rounds.append(measured)
    target.memory_kb = max(target.memory_kb, _memory_kb(target.pid))


def _check_metered(events: int, targets: Mapping[str, Target]) -> None:
    """What was answered has to be in the stream, or the figures are those of something else."""
    answered = targets["gateway"].answered + targets["drf"].answered
    if events < answered:
        raise SystemExit(f"{answered} calls were answered, but only {events} are in the stream")


def _metered_calls() -> int:
    from core.redis import usage_redis
    from core.redis_layout import SHARDS, stream_key

    return sum(int(usage_redis().xlen(stream_key(shard))) for shard in range(SHARDS))  # type: ignore[arg-type]


def _sell(upstream_url: str) -> str:
    """A product, a plan that never refuses, and the key of a customer on it."""
    import django

    django.setup()
    from core.clock import now
    from plans.services import start_subscription
    from tests.factories import create_key, create_organization, create_plan, create_product, create_route

    create_route(create_product("bench", upstream_url=upstream_url), "/*")
    version = create_plan("bench", included=10**9, per_minute=10**9)  # type: ignore[arg-type]
    organization = create_organization("Bench", plan="")
    start_subscription(organization=organization, version=version, by=None, at=now())
    return create_key(organization=organization).clear


def _upstream(port: int) -> Program:
    argv = [
        sys.executable,
        "-m",
        "uvicorn",
        "benchmarks.upstream:app",
        "--port",
        str(port),
        "--loop",
        "uvloop",
    ]
    argv += ["--http", "httptools", "--no-access-log", "--no-server-header", "--lifespan", "off"]
    return Program("upstream", argv, cwd=ROOT, ready=_answers(port))


def _gunicorn(name: str, module: str, port: int) -> Program:
    argv = [sys.executable, "-m", "gunicorn", f"{module}:application", "--bind", f"127.0.0.1:{port}"]
    argv += ["--worker-class", "gthread", "--workers", str(WORKERS), "--threads", "8", "--no-control-socket"]
    return Program(name, argv, cwd=ROOT, ready=_answers(port))


def _answers(port: int) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=2).close()
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            return False
        return True

    return ask


@contextmanager
def _running(program: Program, log: Path) -> Iterator[int]:
    process = spawn(program, log)
    try:
        wait_ready(program, process, log)
        yield process.pid
    finally:
        stop(program, process)


def _memory_kb(leader: int) -> int:
    """Proportional memory of a process and all its children: shared pages count once."""
    time.sleep(0.05)
    return sum(_pss_kb(int(path.name)) for path in Path("/proc").glob("[0-9]*") if _is_of(path, leader))


def _is_of(path: Path, leader: int) -> bool:
    try:
        return os.getpgid(int(path.name)) == leader
    except ProcessLookupError:
        return False


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it ended meanwhile
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    main()
