"""`make chaos`: kill -9 of gateway, workers, beat, Valkey and PostgreSQL in turn, under load, with everything real.

A call is acknowledged when its client has the complete 2xx answer. Each acknowledged call must be in the ledger exactly
once, whatever died meanwhile. Prints `kills`, `acknowledged`, `ledgered`, `lost`, `doubled` and `differences` (those that
`reconcile` names), one a line; exits 0 only when nothing was lost, doubled or different.
"""

import argparse
import http.client
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from pathlib import Path

from deploy.local import programs, testing
from deploy.local.environment import ensure_environment
from deploy.local.ports import free_port
from deploy.local.process import Program
from deploy.local.programs import Ports
from deploy.local.servers import Postgres, Valkey
from deploy.local.supervisor import Supervisor

VICTIMS = ("gateway", "worker-ledger", "valkey", "beat", "postgres")
CALLS_BETWEEN_KILLS = 40
CLIENTS = 6
PATIENCE = 90.0
SETTLED_WITHIN = 60.0


@dataclass
class Load:
    """Clients that call in a row and note what they were promised."""

    gateway_port: int
    path: str
    keys: Sequence[str]
    acknowledged: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        for key in islice(cycle(self.keys), CLIENTS):
            thread = threading.Thread(target=self._work, args=(key,))
            thread.start()
            self.threads.append(thread)

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def _work(self, key: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway_port, timeout=15)
        while not self.stopping.is_set():
            try:
                self._call(connection, key)
            except (
                OSError,
                http.client.HTTPException,
            ):  # refused, cut off in the middle, no answer: not acknowledged
                connection.close()
                time.sleep(0.05)
        connection.close()

    def _call(self, connection: http.client.HTTPConnection, key: str) -> None:
        connection.request("GET", self.path, headers={"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        answer.read()  # raises when it is shorter than announced
        if answer.status == 200:
            self.acknowledged.append(answer.headers["X-Request-Id"])
        else:
            time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=25, help="how many processes to kill (25)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="farebox-chaos-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # `nobody` must reach PostgreSQL's folder inside
        figures = _run(folder, arguments.kills)
    for figure, value in figures.items():
        print(f"{figure} {value}")
    sys.exit(1 if figures["lost"] or figures["doubled"] or figures["differences"] else 0)


def _run(folder: Path, kills: int) -> dict[str, int]:
    postgres = testing.start_postgres(folder, durable=True)
    database_url = testing.clone(postgres.url, template=testing.TEMPLATE, name="farebox_chaos")
    postgres.stop()
    ports = Ports(web=free_port(), gateway=free_port(), upstream=free_port())
    with Supervisor(folder / "state", say=lambda line: print(line, file=sys.stderr)) as supervisor:
        valkey = Valkey(folder / "valkey")
        supervisor.start_server(postgres.program, postgres.prepare)
        supervisor.start_server(valkey.program, valkey.prepare)
        env = environment(folder, ports, database_url, valkey.url)
        keys = _install(ports)
        children = _children(supervisor.state, ports, env, postgres, valkey)
        supervisor.start_together([p for p in children.values() if p.name not in ("postgres", "valkey")])
        load = Load(ports.gateway, "/places/v1/cities/2950159", keys)
        load.start()
        try:
            killed = _kill_in_turn(supervisor, children, load, kills)
        finally:
            load.stop()
        wait_until(supervisor, streams_are_empty, "the worker has drained everything")
        return {"kills": killed, "acknowledged": len(load.acknowledged)} | _count(load.acknowledged)


def environment(folder: Path, ports: Ports, database_url: str, redis_url: str) -> dict[str, str]:
    """Also of this process, which installs and counts through the product's own code."""
    own = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "FAREBOX_VAR_DIR": str(folder / "state"),
        "FAREBOX_PORTAL_URL": ports.portal_url,
        "FAREBOX_GATEWAY_URL": ports.gateway_url,
        "STATIC_ROOT": str(folder / "static"),
        "HTTPS_ONLY": "0",
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "LOG_LEVEL": "WARNING",
    }
    (folder / "static").mkdir()
    for name in ("BROKER_URL", "CACHE_URL", "DEBUG"):
        os.environ.pop(name, None)
    os.environ.update(own)
    return ensure_environment(folder / "state", own) | own


def _children(
    state: Path, ports: Ports, env: Mapping[str, str], postgres: Postgres, valkey: Valkey
) -> dict[str, Program]:
    found = [
        postgres.program(),
        valkey.program(),
        programs.upstream(ports, env),
        programs.gateway(ports, env, reload=False),
        programs.worker("ledger", state, env),
        programs.beat(state, env),
    ]
    return {program.name: program for program in found}


def _kill_in_turn(supervisor: Supervisor, children: Mapping[str, Program], load: Load, kills: int) -> int:
    for name in islice(cycle(VICTIMS), kills):
        wait_until(supervisor, partial(_has_served, load, len(load.acknowledged)), "calls go on")
        pid = supervisor.pid(name)
        os.kill(pid, signal.SIGKILL)
        wait_until(supervisor, partial(_is_back, supervisor, children[name], pid), f"{name} comes back")
    wait_until(supervisor, partial(_has_served, load, len(load.acknowledged)), "calls go on")
    return kills


def _has_served(load: Load, before: int) -> bool:
    return len(load.acknowledged) >= before + CALLS_BETWEEN_KILLS


def _is_back(supervisor: Supervisor, program: Program, killed: int) -> bool:
    return supervisor.pid(program.name) != killed and program.ready()


def wait_until(supervisor: Supervisor, done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        supervisor.tick()
        if supervisor.stopping or time.monotonic() > deadline:
            raise SystemExit(f"gave up waiting until {what}")
        time.sleep(0.05)


def streams_are_empty() -> bool:
    from core.redis import usage_redis
    from core.redis_layout import SHARDS, stream_key

    return not any(usage_redis().xlen(stream_key(shard)) for shard in range(SHARDS))


def _install(ports: Ports) -> list[str]:
    """Three organizations in three shards that may call as often as they like; their keys."""
    import django

    django.setup()
    from core.clock import now
    from core.redis import usage_redis
    from plans.services import start_subscription
    from tests.factories import create_key, create_organization, create_plan, create_product, create_route

    usage_redis().flushdb()
    create_route(create_product("places", upstream_url=ports.upstream_url), "/*")
    version = create_plan("chaos", included=10**9, per_minute=10**9)  # type: ignore[arg-type]
    keys = []
    for shard in (3, 17, 42):
        organization = create_organization(f"Shard {shard}", plan="", shard=shard)
        start_subscription(organization=organization, version=version, by=None, at=now())
        keys.append(create_key(organization=organization).clear)
    return keys


def _count(acknowledged: Sequence[str]) -> dict[str, int]:
    """After the last kill: what the ledger has of what was promised."""
    from django.db import connection

    from core.clock import now
    from metering.models import UsageEvent
    from metering.reconcile import reconcile

    connection.close()  # it was killed with its server
    outcome = reconcile(at=now(), timeout_seconds=SETTLED_WITHIN)
    for difference in outcome.differences:
        print(difference, file=sys.stderr)
    stored = Counter(UsageEvent.objects.values_list("request_id", flat=True))
    promised = set(acknowledged)
    return {
        "ledgered": sum(1 for request_id in promised if request_id in stored),
        "lost": sum(1 for request_id in promised if request_id not in stored),
        "doubled": sum(1 for times in stored.values() if times > 1) + len(acknowledged) - len(promised),
        "differences": len(outcome.differences),
    }


if __name__ == "__main__":
    main()
