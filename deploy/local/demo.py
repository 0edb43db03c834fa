"""`demo`, `run` and `servers`: everything of Farebox on this machine under one supervisor."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from deploy.local import programs
from deploy.local.environment import ensure_environment, seed_mark
from deploy.local.ports import require_free
from deploy.local.process import Program
from deploy.local.programs import ROOT, Ports
from deploy.local.servers import Postgres, Server, Valkey
from deploy.local.supervisor import StateLock, Supervisor

_OURS = (
    "postgres",
    "valkey",
    "static",
    "log",
)  # folders of the state; RESET removes these and the files below
_FILES = (
    "demo.json",
    "stripe.json",
    "servers.json",
    "secret.env",
    "beat-schedule",
    "beat-schedule.db",
    "seeding",
)


def state_folder() -> Path:
    return Path(os.environ.get("FAREBOX_VAR_DIR") or ROOT / "var").absolute()


def demo(*, reset: bool = False) -> None:
    """Everything, with seeded customers; returns after Ctrl-C. Raises PortTaken, AlreadyRunning, ProgramFailed."""
    _run_all(seed=True, debug=False, reset=reset)


def run() -> None:
    """Everything for development: DEBUG, reload on change, the logs of all processes in the terminal, no seed."""
    _run_all(seed=False, debug=True, reset=False)


def servers() -> None:
    """PostgreSQL and Valkey only, for `manage.py` and tools."""
    with Supervisor(state_folder()) as supervisor:
        addresses = _start_servers(supervisor)
        if not supervisor.stopping:
            print("PostgreSQL and Valkey are up; manage.py finds them. Ctrl-C stops them.", flush=True)
            print(
                f"  DATABASE_URL={addresses['DATABASE_URL']}\n  REDIS_URL={addresses['REDIS_URL']}",
                flush=True,
            )
        try:
            supervisor.run()
        finally:
            (supervisor.state / "servers.json").unlink(missing_ok=True)


def _run_all(*, seed: bool, debug: bool, reset: bool) -> None:
    started = time.monotonic()
    state = state_folder()
    ports = Ports.from_environment()
    if reset or (seed and seed_mark(state).exists()):  # half a seed is of no use to anybody
        _reset(state)
    with Supervisor(state, echo=debug) as supervisor:
        require_free(ports.by_variable())
        try:
            env = _environment(state, ports, seed=seed, debug=debug) | _start_servers(supervisor)
            _start_farebox(supervisor, ports, env, seed=seed, debug=debug)
            if not supervisor.stopping:
                _announce(state, ports, time.monotonic() - started)
            supervisor.run()
        finally:
            (state / "servers.json").unlink(missing_ok=True)
            print("\nStopping ...", flush=True)
    print("Stopped; the data stays in", state, flush=True)


def _environment(state: Path, ports: Ports, *, seed: bool, debug: bool) -> dict[str, str]:
    kept = {
        "FAREBOX_PORTAL_URL": ports.portal_url,
        "FAREBOX_GATEWAY_URL": ports.gateway_url,
        "FAREBOX_UPSTREAM_URL": ports.upstream_url,
        "FAREBOX_MAILBOX": "1",  # mails are read in the browser
        "FAREBOX_SAMPLE_API": "1",  # /api/v1/places/: the DRF door on the same data
        "HTTPS_ONLY": "0",  # plain http, this machine only
        "STATIC_ROOT": str(state / "static"),
        "FAREBOX_INVOICE_PAY_TO": "Bank transfer to Farebox Demo|IBAN DE02 1203 0000 0000 2020 51",
    }
    if seed and not os.environ.get("STRIPE_SECRET_KEY"):  # who has a sandbox of Stripe's uses that
        kept |= {"STRIPE_SECRET_KEY": f"sk_test_{'standin' * 4}", "STRIPE_API_HOST": ports.stripe_url}
    env = ensure_environment(state, kept)
    env |= {
        "FAREBOX_VAR_DIR": str(state),
        "PYTHONUNBUFFERED": "1",
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    return env | ({"DEBUG": "1", "LOG_FORMAT": "text"} if debug else {})


def _start_servers(supervisor: Supervisor) -> dict[str, str]:
    """Start the servers whose address is not set, and leave the addresses where `manage.py` looks."""
    addresses = {}
    wanted: list[tuple[str, str, Server]] = [
        ("PostgreSQL", "DATABASE_URL", Postgres(supervisor.state / "postgres")),
        ("Valkey", "REDIS_URL", Valkey(supervisor.state / "valkey")),
    ]
    for title, variable, server in wanted:
        if given := os.environ.get(variable):
            addresses[variable] = given
            continue
        _progress(title, partial(supervisor.start_server, server.program, server.prepare))
        addresses[variable] = server.url
    _publish(supervisor.state, addresses)
    return addresses


def _publish(state: Path, addresses: dict[str, str]) -> None:
    path = state / "servers.json"
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    content = {"pid": os.getpid()} | {name.lower(): value for name, value in addresses.items()}
    path.write_text(json.dumps(content))


def _start_farebox(
    supervisor: Supervisor, ports: Ports, env: dict[str, str], *, seed: bool, debug: bool
) -> None:
    if env.get("STRIPE_API_HOST") == ports.stripe_url:
        standin = programs.stripe_standin(ports, env, supervisor.state)
        _progress("Stand-in for Stripe", lambda: supervisor.start_together([standin]))
    _progress("Database and assets", lambda: supervisor.run_once(programs.prepare(env, seed=seed), show=True))
    together: list[Program] = [
        programs.upstream(ports, env),
        programs.web(ports, env, reload=debug),
        programs.gateway(ports, env, reload=debug),
        programs.worker("ledger", supervisor.state, env),
        programs.worker("default", supervisor.state, env),
        programs.beat(supervisor.state, env),
    ]
    _progress("Portal, gateway, workers, sample upstream", lambda: supervisor.start_together(together))


def _progress(title: str, work: Callable[[], object]) -> None:
    started = time.monotonic()
    print(f"{title} ...", flush=True)
    work()
    print(f"{title}: ready after {time.monotonic() - started:.1f} s", flush=True)


def _announce(state: Path, ports: Ports, seconds: float) -> None:
    print(f"\nFarebox is up after {seconds:.1f} s. Ctrl-C stops it.\n")
    print(
        f"  Portal    {ports.portal_url}\n  Gateway   {ports.gateway_url}\n  Mails     {ports.portal_url}/mailbox/"
    )
    facts_file = state / "demo.json"
    if facts_file.is_file():
        facts = _with_ports_of_today(facts_file, ports)
        for title, login in (("Customer", facts["customer"]), ("Staff", facts["staff"])):
            print(f"  {title:<9} {login['email']}  {login['password']}")
        print('  Card      4242 4242 4242 4242 pays, 4000 0000 0000 0341 fails later (README, "Try it")')
        print(f"\n  curl -H 'Authorization: Bearer {facts['key']}' '{facts['curl_url']}'")
    print(f"\n  Logs in {state / 'log'}", flush=True)


def _with_ports_of_today(facts_file: Path, ports: Ports) -> dict[str, Any]:
    """The seed wrote the addresses of the first start; PORT_WEB and PORT_GATEWAY may differ since."""
    facts: dict[str, Any] = json.loads(facts_file.read_text())
    path = facts["curl_url"].removeprefix(facts["gateway"])
    facts |= {"portal": ports.portal_url, "gateway": ports.gateway_url, "curl_url": ports.gateway_url + path}
    facts_file.write_text(json.dumps(facts, indent=2))
    return facts


def _reset(state: Path) -> None:
    lock = StateLock(state)  # never under a running demo
    for name in _OURS:
        folder = state / name
        if folder.is_symlink():  # the server's folder of a checkout that `nobody` cannot enter
            shutil.rmtree(folder.resolve(), ignore_errors=True)
            folder.unlink()
        shutil.rmtree(folder, ignore_errors=True)
    for name in _FILES:
        (state / name).unlink(missing_ok=True)
    lock.release()
    print("Removed the data of earlier starts.", file=sys.stderr, flush=True)
