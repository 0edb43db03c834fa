"""Servers, databases and the browser of a test run.

Real PostgreSQL and Valkey are started before Django's settings are read (which is why the settings module is named here
and not in pyproject.toml: pytest-django would read it too early). DATABASE_URL and REDIS_URL, when set, are used instead:
then databases named `test_farebox_*` are made on that server, and databases 0 to 47 of that Redis are flushed.
"""

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from deploy.local import testing
from deploy.local.servers import Postgres, Server, Valkey
from tests import flush
from tests.browser import CHROMIUM, Browser
from tests.demo import Demo

_TEST_SETTINGS = {
    "DEBUG": "0",
    "SECRET_KEY": "for-tests-only-for-tests-only-for-tests-only-for-tests",
    "ENCRYPTION_KEYS": "Zm9yLXRlc3RzLW9ubHktZm9yLXRlc3RzLW9ubHktMTI=",
    "ADMIN_API_KEY": "owner-key-for-tests-only-0123456789",
    "HTTPS_ONLY": "0",
    "FAREBOX_MAILBOX": "0",
    "EMAIL_URL": "consolemail://",
    "LOG_LEVEL": "WARNING",
    "FAREBOX_SAMPLE_API": "1",
    "STATICFILES_BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage",
}
_servers: list[Server] = []


def pytest_configure(config: pytest.Config) -> None:
    """Start what this process needs. Under xdist the controller starts PostgreSQL, each worker its Valkey and database."""
    worker = getattr(config, "workerinput", {}).get("workerid", "")
    if not worker:
        _start_run()
    runs_tests = bool(worker) or not _distributes(config)
    if runs_tests:
        _start_process(worker or "main")
    _load_settings(named_for_children=runs_tests)


def _start_run() -> None:
    """Once a run: folder, environment, PostgreSQL with the migrated template."""
    _remove_leftovers()
    folder = Path(tempfile.mkdtemp(prefix=f"farebox-test-{os.getpid()}-"))
    folder.chmod(0o711)  # `nobody` must reach PostgreSQL's folder inside
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "static").mkdir()
    os.environ.update(_TEST_SETTINGS, FAREBOX_VAR_DIR=str(folder), STATIC_ROOT=str(folder / "static"))
    os.environ["FAREBOX_TEST_OWN_REDIS"] = "" if os.environ.get("REDIS_URL") else "1"
    if url := os.environ.get("DATABASE_URL"):
        template = testing.ensure_template(url, f"test_farebox_template_{testing.schema_key()}")
    else:
        server = testing.start_postgres(folder)
        _servers.append(server)
        url, template = server.url, testing.TEMPLATE
    os.environ.update(FAREBOX_TEST_SERVER=url, FAREBOX_TEST_TEMPLATE=template, DATABASE_URL=url)
    os.environ.setdefault(
        "REDIS_URL", "redis://127.0.0.1:1/0"
    )  # the controller of a distributed run uses none


def _remove_leftovers() -> None:
    """Folders of runs that were killed; their servers died with them."""
    for folder in Path(tempfile.gettempdir()).glob("farebox-test-*-*"):
        if (
            folder.owner() == Path("/proc/self").owner()
            and not Path("/proc", folder.name.split("-")[2]).exists()
        ):
            shutil.rmtree(folder, ignore_errors=True)


def _start_process(name: str) -> None:
    """Once a process that runs tests: a clone of the template and a Valkey."""
    server_url, template = os.environ["FAREBOX_TEST_SERVER"], os.environ["FAREBOX_TEST_TEMPLATE"]
    database = f"test_farebox_{name}_{os.getpid()}"
    os.environ["DATABASE_URL"] = testing.clone(server_url, template=template, name=database)
    if os.environ["FAREBOX_TEST_OWN_REDIS"]:
        valkey = Valkey(Path(os.environ["FAREBOX_VAR_DIR"]) / f"valkey-{name}", durable=False)
        valkey.start()
        _servers.append(valkey)
        os.environ["REDIS_URL"] = valkey.url
    elif name != "main":  # usage, broker and cache of each worker
        first = 3 * int(name.removeprefix("gw"))
        head = os.environ["REDIS_URL"].rstrip("0123456789").rstrip("/")
        os.environ.update(
            {key: f"{head}/{first + n}" for n, key in enumerate(("REDIS_URL", "BROKER_URL", "CACHE_URL"))}
        )


def _load_settings(*, named_for_children: bool) -> None:
    from django.conf import settings  # after the environment is complete

    if settings.configured:
        raise pytest.UsageError(
            "Settings were read before the servers were up: unset DJANGO_SETTINGS_MODULE."
        )
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.MD5PasswordHasher"
    ]  # the real one takes 0.2 s a login
    if not named_for_children:
        # Workers that inherit the name would read the settings before their servers are up.
        del os.environ["DJANGO_SETTINGS_MODULE"]


def _distributes(config: pytest.Config) -> bool:
    return bool(getattr(config.option, "tx", None)) or config.option.__dict__.get("dist", "no") != "no"


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    while _servers:
        _servers.pop().stop()


@pytest.fixture(scope="session")
def django_db_setup(django_db_blocker: Any) -> Iterator[None]:
    """Nothing to migrate: DATABASE_URL is a clone of the template already. It is dropped after the last test."""
    from django.db import connections

    yield
    with django_db_blocker.unblock():
        connections.close_all()
    testing.drop(os.environ["FAREBOX_TEST_SERVER"], os.environ["DATABASE_URL"].rpartition("/")[2])


@pytest.fixture(autouse=True)
def _empty_ledger(request: pytest.FixtureRequest, django_db_blocker: Any) -> Iterator[None]:
    """Django's flush after a transactional test knows only managed tables; the ledger's are plain SQL."""
    yield
    marker = request.node.get_closest_marker("django_db")
    transactional = {"transactional_db", "live_server"} & set(request.fixturenames)
    if transactional or (marker and marker.kwargs.get("transaction")):
        with django_db_blocker.unblock():
            _truncate_unmanaged()


def _truncate_unmanaged() -> None:
    from django.apps import apps
    from django.db import connection

    tables = {model._meta.db_table for model in apps.get_models() if not model._meta.managed}
    with connection.cursor() as cursor:
        existing = set(connection.introspection.table_names(cursor))
        if names := ", ".join(sorted(tables & existing)):
            cursor.execute(f"TRUNCATE {names}")


@pytest.fixture
def usage_redis() -> Iterator["redis.Redis"]:
    """A client of the usage server, empty before and after the test (broker and cache too)."""
    with redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=5) as client:
        _flush(client)
        yield client
        _flush(client)


def _flush(client: "redis.Redis") -> None:
    if os.environ["FAREBOX_TEST_OWN_REDIS"]:
        client.flushall()
        return
    client.flushdb()
    from django.conf import settings

    for url in (settings.BROKER_URL, settings.CACHE_URL):
        with redis.Redis.from_url(url) as other:
            other.flushdb()


class ServerFactory:
    """Servers of a test's own, to be killed, frozen and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Server] = []

    def postgres(self) -> tuple[Postgres, str]:
        """A durable server and the address of a migrated database on it."""
        server = testing.start_postgres(self._folder / f"postgres-{len(self._made)}", durable=True)
        self._made.append(server)
        return server, testing.clone(server.url, template=testing.TEMPLATE, name="test_farebox_own")

    def valkey(self) -> Valkey:
        server = Valkey(self._folder / f"valkey-{len(self._made)}")
        self._made.append(server)
        server.start()
        return server

    def stop_all(self) -> None:
        for server in reversed(self._made):
            server.thaw()
            server.stop()


@pytest.fixture
def server_factory() -> Iterator[ServerFactory]:
    folder = Path(tempfile.mkdtemp(prefix="own-", dir=os.environ["FAREBOX_VAR_DIR"]))
    folder.chmod(0o711)
    factory = ServerFactory(folder)
    yield factory
    factory.stop_all()
    shutil.rmtree(folder, ignore_errors=True)


# --- the whole product ----------------------------------------------------------------------------------------------


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o711)
    running = Demo(tmp_path / "var")
    yield running
    if running.process and running.process.poll() is None:
        running.stop(signal.SIGKILL)


# --- browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _browser() -> Iterator[Browser]:
    browser = Browser(Path(os.environ["FAREBOX_VAR_DIR"]) / f"chromium-{os.getpid()}")
    browser.start()
    yield browser
    browser.stop()


@pytest.fixture
def new_page(_browser: Browser, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """`new_page(width=1280, height=900, dark=False)`: a page in a context of its own; several are several people."""
    # Playwright's synchronous interface runs an event loop in this thread, which Django would refuse to share.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    with _browser.session() as session:
        yield session.new_page


@pytest.fixture
def browser_page(new_page: Callable[..., Any]) -> Any:
    """One fresh page, 1280 by 900."""
    return new_page()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Any test that opens a page is a browser test; without Chromium it is reported as not run."""
    for item in items:
        if {"browser_page", "new_page"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.browser)
        if item.get_closest_marker("browser") and CHROMIUM is None:
            item.add_marker(pytest.mark.skip(reason="NOT RUN: Chromium is missing"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = [
        report
        for report in terminalreporter.stats.get("skipped", [])
        if "NOT RUN: Chromium" in str(report.longrepr)
    ]
    if skipped:
        terminalreporter.section("BROWSER TESTS NOT RUN", sep="!", red=True, bold=True)
        terminalreporter.line(
            f"{len(skipped)} browser tests did not run, because Chromium is missing: `apt-get install chromium`.",
            red=True,
        )
    others = {str(one.longrepr).rpartition("NOT RUN: ")[2].strip("'\") ") for one in terminalreporter.stats.get("skipped", [])
              if "NOT RUN: " in str(one.longrepr) and one not in skipped}  # fmt: skip
    if others:
        terminalreporter.section("TESTS NOT RUN", sep="!", red=True, bold=True)
        for reason in sorted(others):
            terminalreporter.line(reason, red=True)


signal.signal(signal.SIGTERM, signal.default_int_handler)  # a terminated run stops its servers too


@pytest.fixture(scope="session", autouse=True)
def quick_flush() -> None:
    """Only what a transactional test filled is emptied after it."""
    flush.install()
