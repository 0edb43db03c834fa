"""`make bench`: what the doors cost, one figure a line as `name value unit`.

The bare upstream against the gateway before it, and one DRF endpoint guarded by Farebox against the same endpoint guarded
by djangorestframework-api-key with a Redis counter. All on loopback, one worker each, in rounds that take turns, so that a
busy machine is busy for all; a figure is the median of its rounds. Needs DATABASE_URL and REDIS_URL of servers to fill.
"""

import argparse
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from statistics import median

import django

from benchmarks.load import Load, load
from deploy.local.ports import free_port

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 3
PARTS = ("reports", "statements")  # each fills servers of its own
OWNER_KEY = "owner-key-of-the-benchmark"
UVICORN = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]


@dataclass
class Target:
    """One address under load, and the process that serves it."""

    name: str
    url: str
    headers: dict[str, str]
    pid: int
    body: str = ""
    rounds: list[Load] = field(default_factory=list)

    def middle(self, figure: str) -> float:
        return median(getattr(one, figure) for one in self.rounds)

    def memory_mb(self) -> float:
        """Resident memory of the server and its workers."""
        return sum(_rss_kb(pid) for pid in _family(self.pid)) / 1024

    def report(self) -> None:
        print(f"{self.name} {self.middle('calls'):.0f} calls/s")
        print(f"{self.name}_p50 {self.middle('p50'):.2f} ms")
        print(f"{self.name}_p99 {self.middle('p99'):.2f} ms")
        print(f"{self.name}_memory {self.memory_mb():.0f} MB")


@contextmanager
def serving(argv: Sequence[str], ready: str, **environment: str) -> Iterator[int]:
    """A server until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", *argv], cwd=ROOT, env=os.environ | {"LOG_LEVEL": "ERROR"} | environment
    )
    try:
        _wait_until_answered(process, ready)
        yield process.pid
    finally:
        process.terminate()
        process.wait(15)


@contextmanager
def serving_web(**environment: str) -> Iterator[tuple[str, int]]:
    """The guarded endpoint: its address and process."""
    url = f"http://127.0.0.1:{free_port()}"
    argv = ["gunicorn", "benchmarks.peer.wsgi:application", "--bind", url.removeprefix("http://")]
    argv += ["--worker-class", "gthread", "--threads", "8", "--log-level", "warning", "--no-control-socket"]
    with serving(argv, f"{url}/peer", **environment) as pid:
        yield url, pid


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in _family(int(child)))]


def _rss_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


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


def sell(upstream_url: str) -> tuple[str, str]:
    """The catalogue and one customer without a limit in its way: the key of Farebox and the key of the package."""
    from django.core.management import call_command
    from rest_framework_api_key.models import APIKey

    from tests.factories import create_key, create_organization, create_plan, create_product, create_route

    call_command("migrate", "rest_framework_api_key", verbosity=0)
    version = create_plan("bench", per_minute=10_000_000, included=Decimal(10**9))
    create_route(create_product("bench", upstream_url=upstream_url), "/answer")
    _, peer_key = APIKey.objects.create_key(name="bench")
    return create_key(organization=create_organization(plan=version.plan.slug)).clear, peer_key


def start_all(stack: ExitStack) -> list[Target]:
    """Start everything; in the order of the report."""
    upstream_url, gateway_url = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    upstream = stack.enter_context(
        serving(["uvicorn", "benchmarks.peer.upstream:app", *_port(upstream_url), "--lifespan", "off", *UVICORN],
                upstream_url)
    )  # fmt: skip
    key, peer_key = sell(upstream_url)
    gateway = stack.enter_context(
        serving(["uvicorn", "gateway.app:app", *_port(gateway_url), *UVICORN, "--http", "gateway.protocol:GuardedProtocol"],
                f"{gateway_url}/readyz",
                DJANGO_SETTINGS_MODULE="config.settings", ADMIN_API_KEY=OWNER_KEY)
    )  # fmt: skip
    web_url, web = stack.enter_context(serving_web())
    bare_url, bare = stack.enter_context(serving_web(BENCH_HEALTH_CHECKS="0"))
    bearer, api_key = {"Authorization": f"Bearer {key}"}, {"Authorization": f"Api-Key {peer_key}"}
    owner = {"Authorization": f"Bearer {OWNER_KEY}", "Content-Type": "application/json"}
    question = f'{{"key":"{key}","product":"bench","path":"/answer"}}'
    return [
        Target("upstream", f"{upstream_url}/answer", {}, upstream),
        Target("gateway", f"{gateway_url}/bench/answer", bearer, gateway),
        Target("verify", f"{gateway_url}/api/keys/verify", owner, gateway, question),
        Target("drf", f"{web_url}/ours", bearer, web),
        Target("api_key_package", f"{web_url}/peer", api_key, web),
        Target("api_key_package_no_health_checks", f"{bare_url}/peer", api_key, bare),
    ]


def _port(url: str) -> list[str]:
    return ["--port", url.rpartition(":")[2]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4, help=f"of each of {ROUNDS} rounds")
    parser.add_argument("--part", choices=["doors", *PARTS], default="doors", help="what to measure instead")
    chosen = parser.parse_args()
    if chosen.part in PARTS:
        subprocess.run([sys.executable, "-m", f"benchmarks.{chosen.part}"], cwd=ROOT, check=True)
        return
    seconds = chosen.seconds
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.peer.settings"
    django.setup()
    with ExitStack() as stack:
        targets = start_all(stack)
        for target in targets:
            load(target.url, target.headers, 1, body=target.body)  # warm
        for _ in range(ROUNDS):
            for target in targets:
                target.rounds.append(load(target.url, target.headers, seconds, body=target.body))
        for target in targets:
            target.report()
    upstream, gateway, verify, drf, package, bare = (target.middle("calls") for target in targets)
    print(f"gateway_vs_upstream {gateway / upstream:.3f} ratio")
    print(f"verify_vs_bare_asgi {verify / upstream:.3f} ratio")
    print(f"drf_vs_api_key_package {drf / package:.2f} ratio")
    print(f"drf_vs_api_key_package_no_health_checks {drf / bare:.2f} ratio", flush=True)
    subprocess.run([sys.executable, "benchmarks/scripts.py"], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
