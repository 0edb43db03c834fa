"""Servers and databases for test runs: real ones, started in well under a second.

The migrations run once; the stopped cluster with the migrated template database is kept under `var/test-template`,
and every run starts a copy of it. Each process of the run gets a clone of the template and a Valkey of its own.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from deploy.local.binaries import find_postgres
from deploy.local.schema import migrate
from deploy.local.servers import Postgres

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "var" / "test-template"
TEMPLATE = "farebox_template"


def schema_key() -> str:
    """Changes when a migration of ours or the version of any package does."""
    digest = hashlib.sha256()
    migrations = (path for path in ROOT.glob("*/migrations/*.py"))
    for path in sorted([*migrations, ROOT / "requirements.txt", *ROOT.glob("metering/migrations/*.sql")]):
        digest.update(f"{path.relative_to(ROOT)}:".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def start_postgres(folder: Path, *, durable: bool = False) -> Postgres:
    """A started server under `folder` that holds the migrated template database (named TEMPLATE)."""
    server = Postgres(folder / "postgres", durable=False)
    major = find_postgres().major
    kept = CACHE / f"{schema_key()}-{major}-{os.getuid()}"
    if (kept / "data" / "PG_VERSION").is_file():
        _copy(kept, server.state)
        server.durable = durable
        server.start()
        return server
    server.start()
    ensure_template(server.url)
    server.stop()
    _keep(server.state, kept)
    server.durable = durable
    server.start()
    return server


def ensure_template(server_url: str, name: str = TEMPLATE) -> str:
    """The template database on the server of `server_url`, migrated; returns its name. One process makes it at a time."""
    with psycopg.connect(server_url, autocommit=True) as db:
        db.execute("SELECT pg_advisory_lock(1178747216, 1)")
        exists = "SELECT 1 FROM pg_database WHERE datname = %s AND datistemplate"
        if db.execute(exists, [name]).fetchone() is None:
            db.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
            db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            migrate(database_address(server_url, name))
            # The mark says that the migrations went through; half a template is dropped and made again.
            db.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(sql.Identifier(name)))
    return name


def clone(server_url: str, *, template: str, name: str) -> str:
    """A fresh database made from the template; returns its address."""
    with psycopg.connect(server_url, autocommit=True) as db:
        db.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        db.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
    return database_address(server_url, name)


def drop(server_url: str, name: str) -> None:
    with psycopg.connect(server_url, autocommit=True) as db:
        db.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def database_address(server_url: str, name: str) -> str:
    """The same server and account, another database."""
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))


def _keep(state: Path, kept: Path) -> None:
    """Put the stopped server's files aside; older schemas go, they would only pile up."""
    CACHE.mkdir(parents=True, exist_ok=True)
    partial = kept.with_name(f"{kept.name}.{os.getpid()}.partial")
    _copy(state, partial)
    for old in CACHE.iterdir():
        if old.name.endswith(f"-{os.getuid()}") and old != kept:
            shutil.rmtree(old, ignore_errors=True)
    try:
        partial.rename(kept)
    except OSError:  # another run was faster
        shutil.rmtree(partial, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    names = [str(source / name) for name in ("data", "password")]
    subprocess.run(["cp", "-a", "--reflink=auto", *names, str(target)], check=True)
