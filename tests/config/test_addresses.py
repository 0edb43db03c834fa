import json
import os
from pathlib import Path

import pytest

from config.addresses import AddressMissing, find_addresses, with_database_number

STATE = {"database_url": "postgres://local/farebox", "redis_url": "redis://local/0"}


def _state(folder: Path, pid: int) -> Path:
    path = folder / "servers.json"
    path.write_text(json.dumps(STATE | {"pid": pid}))
    return path


def test_the_environment_wins_over_running_servers(tmp_path: Path) -> None:
    state = _state(tmp_path, os.getpid())
    found = find_addresses(database_url="postgres://a/b", redis_url="redis://c/0", state_file=state)
    assert found == ("postgres://a/b", "redis://c/0")


def test_running_servers_are_found(tmp_path: Path) -> None:
    found = find_addresses(database_url="", redis_url="", state_file=_state(tmp_path, os.getpid()))
    assert found == (STATE["database_url"], STATE["redis_url"])


def test_one_address_may_come_from_each(tmp_path: Path) -> None:
    state = _state(tmp_path, os.getpid())
    found = find_addresses(database_url="postgres://a/b", redis_url="", state_file=state)
    assert found == ("postgres://a/b", STATE["redis_url"])


def test_servers_of_a_dead_supervisor_are_not_used(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(AddressMissing, match="DATABASE_URL and REDIS_URL is not set"):
        find_addresses(database_url="", redis_url="", state_file=_state(tmp_path, pid))


def test_sqlite_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(AddressMissing, match="no SQLite mode"):
        find_addresses(database_url="sqlite:///db", redis_url="redis://c/0", state_file=tmp_path / "none")


def test_broken_state_files_count_as_no_servers(tmp_path: Path) -> None:
    (tmp_path / "servers.json").write_text("{")
    with pytest.raises(AddressMissing, match="make demo"):
        find_addresses(database_url="", redis_url="", state_file=tmp_path / "servers.json")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/2"),
        ("redis://:secret@localhost:6379", "redis://:secret@localhost:6379/2"),
        ("rediss://cache.example:6380/5", "rediss://cache.example:6380/2"),
    ],
)
def test_broker_and_cache_are_other_databases_of_the_same_server(url: str, expected: str) -> None:
    assert with_database_number(url, 2) == expected
