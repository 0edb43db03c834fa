"""`make soak`: an hour of mixed load on everything real, and what it left behind. `make soak ARGS="--minutes 10"` is shorter.

A gateway of two workers, the drain, both Celery workers and beat serve a steady load of calls, streams, streams that are cut,
refusals, questions about keys, and keys that change. At the end: every acknowledged call is in the ledger once and `reconcile`
finds everything equal; memory and descriptors of each process, and the keys in Redis, are what they were in the second
tenth of the time. One figure a line; exits with 1 where a promise is not kept. Memory is judged from five minutes on.
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.chaos import environment, streams_are_empty, wait_until
from benchmarks.kit import OWNER_KEY, family, serving_upstream
from benchmarks.model_streams import sell_models, serving_models
from benchmarks.soak_load import MixedLoad, Promises, Sold
from benchmarks.soak_report import Ledger, report
from benchmarks.soak_watch import Watch, count_keys
from deploy.local import programs, testing
from deploy.local.ports import free_port
from deploy.local.process import Program
from deploy.local.programs import Ports
from deploy.local.servers import Postgres, Valkey
from deploy.local.supervisor import Supervisor

SAMPLES = 200
SHARDS = (3, 17, 42)
SETTLED_WITHIN = 90.0
WORKERS = "2"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=40, help="calls a second of all kinds")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="farebox-soak-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # `nobody` must reach PostgreSQL's folder inside
        with ExitStack() as stack:
            kept = _run(stack, folder, seconds=chosen.minutes * 60, rate=chosen.rate)
    sys.exit(0 if kept else 1)


def _run(stack: ExitStack, folder: Path, *, seconds: float, rate: float) -> bool:
    postgres, valkey = _prepare(folder)
    supervisor = stack.enter_context(
        Supervisor(folder / "state", say=lambda line: print(line, file=sys.stderr))
    )
    supervisor.start_server(postgres.program, postgres.prepare)
    supervisor.start_server(valkey.program, valkey.prepare)
    ports = Ports(web=free_port(), gateway=free_port(), upstream=free_port())
    os.environ |= {"ADMIN_API_KEY": OWNER_KEY, "GATEWAY_WORKERS": WORKERS}
    env = environment(folder, ports, _database_url(postgres), valkey.url)
    sold = _sell(stack)
    for program in _children(supervisor.state, ports, env):
        supervisor.start_together([program])
    load = MixedLoad(ports.gateway_url, sold, rate=rate, change_keys_every=max(2.0, seconds / 120))
    watch = Watch(lambda: _processes(supervisor), count_keys)
    promises = _under_load(supervisor, load, watch, seconds)
    wait_until(supervisor, streams_are_empty, "the worker has drained everything")
    wait_until(supervisor, _nothing_is_reserved, "every reservation is settled or given back")
    kept = report(promises, Ledger.read(promises, timeout=SETTLED_WITHIN), watch, seconds=seconds, rate=rate)
    if not kept:
        logs = shutil.copytree(
            supervisor.state / "log", tempfile.mkdtemp(prefix="farebox-soak-log-"), dirs_exist_ok=True
        )
        print(f"Logs of the processes: {logs}", file=sys.stderr)
    return kept


def _prepare(folder: Path) -> tuple[Postgres, Valkey]:
    postgres = testing.start_postgres(folder, durable=True)
    testing.clone(postgres.url, template=testing.TEMPLATE, name="farebox_soak")
    postgres.stop()
    return postgres, Valkey(folder / "valkey")


def _database_url(postgres: Postgres) -> str:
    return f"{postgres.url.rpartition('/')[0]}/farebox_soak"


def _children(state: Path, ports: Ports, env: dict[str, str]) -> list[Program]:
    return [
        programs.gateway(ports, env, reload=False),
        programs.worker("ledger", state, env),
        programs.worker("default", state, env),
        programs.beat(state, env),
    ]


def _under_load(supervisor: Supervisor, load: MixedLoad, watch: Watch, seconds: float) -> Promises:
    """Load in a thread of its own; this one keeps the processes and takes the samples."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(load.run()))
    thread.start()
    begun, taken = time.monotonic(), 0
    try:
        while (passed := time.monotonic() - begun) < seconds and thread.is_alive():
            supervisor.tick()
            if supervisor.stopping:
                raise SystemExit("stopped")
            if passed >= taken * seconds / SAMPLES:
                watch.look()
                taken += 1
            time.sleep(0.05)
    finally:
        loop.call_soon_threadsafe(load.stop)
        thread.join()
        loop.close()
    return load.promises


def _processes(supervisor: Supervisor) -> dict[str, int]:
    """By name; workers of the gateway are numbered."""
    found = {name: supervisor.pid(name) for name in ("worker-ledger", "worker-default", "beat", "valkey")}
    parent, *below = family(supervisor.pid("gateway"))
    workers = [pid for pid in below if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return found | {"gateway": parent} | {f"gateway-{n}": pid for n, pid in enumerate(workers, 1)}


def _nothing_is_reserved() -> bool:
    from benchmarks.hold_streams import open_reservations

    return open_reservations() == 0


def _sell(stack: ExitStack) -> Sold:
    """Three customers in three shards that may call as often as they like, one that may call once a minute, and a model."""
    import django

    django.setup()
    from core.clock import now
    from keys.services import revoke_key
    from tests.factories import create_key, create_organization, create_plan, create_product, create_route

    upstream_url, _ = stack.enter_context(serving_upstream())
    model_key = sell_models(stack.enter_context(serving_models()))
    create_route(create_product("soak", upstream_url=upstream_url), "/answer")
    wide = create_plan("wide", included=10**9, per_minute=10**9)  # type: ignore[arg-type]
    narrow = create_plan("narrow", included=10**9, per_minute=1)  # type: ignore[arg-type]
    organizations = [create_organization(plan=wide.plan.slug, shard=shard) for shard in SHARDS]
    limited = create_key(organization=create_organization(plan=narrow.plan.slug))

    def issue() -> tuple[str, Callable[[], None]]:
        issued = create_key(organization=organizations[0], name="of the soak")
        return issued.clear, lambda: _done(revoke_key(key=issued.key, by=None, at=now()))

    keys = [create_key(organization=organization).clear for organization in organizations]
    return Sold(OWNER_KEY, keys, model_key, limited.clear, issue)


def _done(_value: object) -> None:
    return None


if __name__ == "__main__":
    main()
