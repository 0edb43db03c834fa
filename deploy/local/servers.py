"""Real PostgreSQL and Valkey (or Redis) servers in a folder of ours, as children of the process that starts them."""

import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

import psycopg
import redis
from psycopg import sql
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.local.binaries import copy_postgres, find_postgres, find_redis, readable_by_others
from deploy.local.ports import free_port, is_free
from deploy.local.process import (
    Account,
    Program,
    ProgramFailed,
    spawn,
    stop,
    unprivileged_account,
    wait_ready,
)

HOST = "127.0.0.1"
OWNER = "farebox_owner"
DATABASE = "farebox"
_START_ATTEMPTS = 6
_ONCE = Retry(NoBackoff(), 0)  # whoever asks for readiness asks again anyway


class Server(ABC):
    """A server with a state folder. `start`, `kill` and `stop` are for tests; the supervisor uses `prepare` and `program`."""

    name: str

    def __init__(self, state: Path, *, durable: bool = True) -> None:
        self.state = state.absolute()
        self.durable = durable
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def prepare(self) -> None:
        """Make the state folder fit to start from; choose the port. Idempotent."""

    @abstractmethod
    def program(self) -> Program:
        """How to run it."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Address with password."""

    @property
    def log(self) -> Path:
        return self.state / "server.log"

    def start(self) -> None:
        """Start and wait until it answers; tries again after a lost race for the port or leftovers of a killed one."""
        self.prepare()
        for attempt in range(_START_ATTEMPTS):
            program = self.program()
            self.process = spawn(program, self.log)
            try:
                wait_ready(program, self.process, self.log)
                return
            except ProgramFailed:
                self.stop()
                if attempt == _START_ATTEMPTS - 1:
                    raise
                time.sleep(0.2 * (attempt + 1))
                self.prepare()

    def stop(self) -> None:
        if self.process is not None:
            stop(self.program(), self.process)
            self.process = None

    def kill(self) -> None:
        """SIGKILL, as a power cut would; the next start must recover."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing answers. `thaw` ends it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def _choose_port(self) -> None:
        """The port of last time when it is free, so that addresses survive a restart."""
        memory = self.state / "port"
        remembered = int(memory.read_text()) if memory.is_file() else 0
        self.port = remembered if remembered and is_free(remembered) else free_port()
        memory.write_text(str(self.port))


class Postgres(Server):
    """PostgreSQL; as root it runs as `nobody`, because it refuses to run as root."""

    name = "postgres"

    def __init__(self, state: Path, *, durable: bool = True) -> None:
        super().__init__(state, durable=durable)
        self.account: Account | None = unprivileged_account()

    @property
    def data(self) -> Path:
        return self.state / "data"

    @property
    def url(self) -> str:
        return self.address(DATABASE)

    def address(self, database: str, *, user: str = OWNER) -> str:
        return f"postgres://{user}:{self._password()}@{HOST}:{self.port}/{database}"

    def major(self) -> int | None:
        """Version of the data directory, None when there is none yet."""
        version = self.data / "PG_VERSION"
        return int(version.read_text()) if version.is_file() else None

    def prepare(self) -> None:
        self.state = _reachable(self.state, self.account)
        if self.account:
            os.chown(self.state, *self.account)
        self.binaries = find_postgres(major=self.major())
        if self.account and not readable_by_others(self.binaries.folder):
            self.binaries = copy_postgres(self.binaries, self.state)
        self._choose_port()
        if self.major() is None:
            self._initdb()

    def program(self) -> Program:
        options = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "120",
            "shared_buffers": "128MB",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "jit": "off",
        }
        if not self.durable:
            options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        argv = [str(self.binaries.folder / "postgres"), "-D", str(self.data)]
        for name, value in options.items():
            argv += ["-c", f"{name}={value}"]
        return Program(
            name=self.name,
            argv=argv,
            ready=self._answers,
            before_start=self._forget_dead_postmaster,
            env={"LC_ALL": "C", "TZ": "UTC"},
            cwd=self.state,
            account=self.account,
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGQUIT,  # at once, and its own children with it; the next start recovers
        )

    def _initdb(self) -> None:
        shutil.rmtree(self.data, ignore_errors=True)
        password = self.state / "password"
        if not password.is_file():
            password.touch(mode=0o600)
            password.write_text(secrets.token_urlsafe(24))
            if self.account:
                os.chown(password, *self.account)
        argv = [str(self.binaries.folder / "initdb"), "-D", str(self.data), "-U", "postgres", "-E", "UTF8"]
        argv += ["--auth=scram-sha-256", f"--pwfile={password}", "--no-instructions", *self._locale()]
        argv += [] if self.durable else ["--no-sync"]
        program = Program(name="initdb", argv=argv, env={"TZ": "UTC"}, cwd=self.state, account=self.account)
        process = spawn(program, self.log)
        if process.wait():
            wait_ready(Program(name="initdb", argv=argv, ready=lambda: False), process, self.log)

    def _locale(self) -> list[str]:
        """The same order of texts on every machine; PostgreSQL has a locale provider of its own since 17."""
        if self.binaries.major >= 17:
            return ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        return ["--locale=C"]

    def _forget_dead_postmaster(self) -> None:
        """After a power cut or a copy the file may name a number that some other program has by now."""
        pid_file = self.data / "postmaster.pid"
        try:
            number = int(pid_file.read_text().splitlines()[0])
            alive = str(self.data).encode() in Path(f"/proc/{number}/cmdline").read_bytes()
        except (OSError, ValueError, IndexError):
            alive = False
        if not alive:
            pid_file.unlink(missing_ok=True)

    def _answers(self) -> bool:
        """Up, with the role and the database that the product uses (made here the first time)."""
        try:
            with psycopg.connect(
                self.address("postgres", user="postgres"), connect_timeout=2, autocommit=True
            ) as db:
                _ensure_owner(db, self._password())
            return True
        except psycopg.OperationalError:
            return False

    def _password(self) -> str:
        return (self.state / "password").read_text()


def _ensure_owner(db: psycopg.Connection, password: str) -> None:
    """The owner may make databases and roles but is no superuser: what it cannot do, production cannot do."""
    if db.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [OWNER]).fetchone() is None:
        statement = sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE PASSWORD {}")
        db.execute(statement.format(sql.Identifier(OWNER), sql.Literal(password)))
    if db.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
        statement = sql.SQL("CREATE DATABASE {} OWNER {}")
        db.execute(statement.format(sql.Identifier(DATABASE), sql.Identifier(OWNER)))


class Valkey(Server):
    """Valkey or Redis with an append-only file and no eviction: usage counters may not vanish."""

    name = "valkey"

    @property
    def url(self) -> str:
        return f"redis://:{self._password()}@{HOST}:{self.port}/0"

    def prepare(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        self.binary = find_redis()
        self._choose_port()
        secret = self.state / "password"
        if not secret.is_file():
            secret.touch(mode=0o600)
            secret.write_text(secrets.token_urlsafe(24))
        config = (
            self.state / "valkey.conf"
        )  # a file, because arguments are visible to everybody on the machine
        config.touch(mode=0o600)
        config.write_text("".join(f"{line}\n" for line in self._settings()))

    def _settings(self) -> list[str]:
        return [
            f"bind {HOST}",
            f"port {self.port}",
            f"dir {json.dumps(str(self.state))}",
            f"requirepass {self._password()}",
            "daemonize no",
            'save ""',
            "appendonly yes",
            f"appendfsync {'everysec' if self.durable else 'no'}",
            "maxmemory-policy noeviction",
            "maxclients 4000",
            "databases 64",
        ]

    def program(self) -> Program:
        return Program(
            name=self.name,
            argv=[str(self.binary), str(self.state / "valkey.conf")],
            ready=self._answers,
            cwd=self.state,
            stop_signal=signal.SIGINT,
        )

    def _answers(self) -> bool:
        client = redis.Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2, retry=_ONCE)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def _password(self) -> str:
        return (self.state / "password").read_text()


def _reachable(state: Path, account: Account | None) -> Path:
    """The state folder, made; moved to /var/lib (and linked) when `account` could not enter a private home folder."""
    if state.is_symlink():
        state = state.resolve()
    state.parent.mkdir(parents=True, exist_ok=True)
    if account and not readable_by_others(state):
        mark = hashlib.sha256(str(state).encode()).hexdigest()[:12]
        target = Path(f"/var/lib/farebox-{mark}")
        target.mkdir(mode=0o711, exist_ok=True)
        if not state.exists():
            state.symlink_to(target)
        state = target
    state.mkdir(parents=True, exist_ok=True)
    return state
