"""Secrets and addresses that the machine's processes share through the state folder."""

import json
import os
from pathlib import Path

import pytest

from config.addresses import AddressMissing, find_addresses
from deploy.local import demo
from deploy.local.environment import ensure_environment
from deploy.local.programs import Ports
from deploy.local.supervisor import AlreadyRunning, StateLock


@pytest.fixture(autouse=True)
def _no_outer_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECRET_KEY", "ENCRYPTION_KEYS", "ADMIN_API_KEY", "HTTPS_ONLY"):
        monkeypatch.delenv(name, raising=False)


def test_secrets_are_made_once_and_kept_while_settings_follow_the_day(tmp_path: Path) -> None:
    first = ensure_environment(tmp_path, {"FAREBOX_PORTAL_URL": "http://127.0.0.1:8000"})
    second = ensure_environment(tmp_path, {"FAREBOX_PORTAL_URL": "http://127.0.0.1:8001"})

    for secret in ("SECRET_KEY", "ENCRYPTION_KEYS", "ADMIN_API_KEY"):
        assert len(first[secret]) >= 32
        assert first[secret] == second[secret]
    assert second["FAREBOX_PORTAL_URL"] == "http://127.0.0.1:8001"
    assert oct((tmp_path / "secret.env").stat().st_mode & 0o777) == "0o600"


def test_variables_set_outside_win_and_are_not_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "from outside")

    env = ensure_environment(tmp_path, {"HTTPS_ONLY": "0"})

    assert env["SECRET_KEY"] == "from outside"
    assert "from outside" not in (tmp_path / "secret.env").read_text()


def test_published_addresses_are_found_by_the_settings_and_by_nobody_else(tmp_path: Path) -> None:
    demo._publish(
        tmp_path, {"DATABASE_URL": "postgres://a@127.0.0.1:1/b", "REDIS_URL": "redis://127.0.0.1:2/0"}
    )
    state_file = tmp_path / "servers.json"

    found = find_addresses(database_url="", redis_url="", state_file=state_file)

    assert found == ("postgres://a@127.0.0.1:1/b", "redis://127.0.0.1:2/0")
    assert oct(state_file.stat().st_mode & 0o777) == "0o600"


def test_addresses_left_by_a_dead_supervisor_are_not_used(tmp_path: Path) -> None:
    state_file = tmp_path / "servers.json"
    pid = os.posix_spawn("/bin/true", ["true"], os.environ)
    os.waitpid(pid, 0)
    state_file.write_text(
        json.dumps({"pid": pid, "database_url": "postgres://a@h/b", "redis_url": "redis://h"})
    )

    with pytest.raises(AddressMissing, match="no local servers are running"):
        find_addresses(database_url="", redis_url="", state_file=state_file)


def test_reset_removes_data_and_secrets_but_nothing_else(tmp_path: Path) -> None:
    for name in ("postgres/data", "valkey", "static", "test-template"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("demo.json", "secret.env", "postgres/password"):
        (tmp_path / name).write_text("x")

    demo._reset(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["supervisor.lock", "test-template"]


def test_reset_is_refused_while_the_demo_runs(tmp_path: Path) -> None:
    lock = StateLock(tmp_path)
    (tmp_path / "demo.json").write_text("{}")

    with pytest.raises(AlreadyRunning):
        demo._reset(tmp_path)

    assert (tmp_path / "demo.json").exists()
    lock.release()


def test_demo_file_follows_the_ports_of_the_day(tmp_path: Path) -> None:
    facts_file = tmp_path / "demo.json"
    old = {"portal": "http://127.0.0.1:8000", "gateway": "http://127.0.0.1:9090", "key": "k"}
    facts_file.write_text(json.dumps(old | {"curl_url": "http://127.0.0.1:9090/places/search?q=Oslo"}))

    demo._with_ports_of_today(facts_file, Ports(web=8001, gateway=9091, upstream=9100))

    facts = json.loads(facts_file.read_text())
    assert facts["portal"] == "http://127.0.0.1:8001"
    assert facts["curl_url"] == "http://127.0.0.1:9091/places/search?q=Oslo"
    assert facts["key"] == "k"
