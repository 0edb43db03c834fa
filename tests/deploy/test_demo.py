"""`make demo` itself: everything starts, a call goes through, a second start keeps the data, nothing stays behind."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.ports import free_port
from deploy.local.programs import PORT_VARIABLES

ROOT = Path(__file__).resolve().parents[2]
# Sessions of their own: these processes must not take the addresses of the test run.
_NOT_OURS = (
    "DATABASE_URL",
    "REDIS_URL",
    "BROKER_URL",
    "CACHE_URL",
    "STATICFILES_BACKEND",
    "EMAIL_URL",
    "STATIC_ROOT",
)


class Demo:
    def __init__(self, state: Path) -> None:
        self.state = state
        self.ports = {name: str(free_port()) for name in PORT_VARIABLES}
        self.process: subprocess.Popen[str] | None = None

    def start(self, *arguments: str, within: float = 120) -> str:
        """Start and wait for the closing words; returns what was printed."""
        env = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
        env |= {"FAREBOX_VAR_DIR": str(self.state), "FAREBOX_MAILBOX": "1", **self.ports}
        output = self.state.with_suffix(".out")
        with output.open("w") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deploy.local", "demo", *arguments],
                cwd=ROOT,
                env=env,
                stdout=sink,
                stderr=sink,
            )
        deadline = time.monotonic() + within
        while "Logs in" not in output.read_text():
            assert self.process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.1)
        return output.read_text()

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(60)

    def descendants(self) -> list[str]:
        """Command lines of living processes that belong to this demo: its state folder is in their environment."""
        mark = f"FAREBOX_VAR_DIR={self.state}".encode()
        found = []
        for process in Path("/proc").iterdir():
            try:
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:  # not a process, gone, or another account's
                continue
        return found


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o711)
    running = Demo(tmp_path / "var")
    yield running
    if running.process and running.process.poll() is None:
        running.stop(signal.SIGKILL)


def call(url: str, key: str) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.slow
def test_demo_serves_a_call_survives_kills_and_keeps_its_data(demo: Demo) -> None:
    printed = demo.start()
    facts = json.loads((demo.state / "demo.json").read_text())

    assert facts["key"] in printed
    assert facts["staff"]["email"] in printed
    assert call(facts["curl_url"], facts["key"]) == 200
    assert call(facts["curl_url"], "fb_live_wrong") == 401
    assert oct((demo.state / "demo.json").stat().st_mode & 0o777) == "0o600"

    demo.stop(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while demo.descendants() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert demo.descendants() == []

    started = time.monotonic()
    demo.start()
    assert time.monotonic() - started < 30  # 10 s on a machine that does nothing else
    assert call(facts["curl_url"], facts["key"]) == 200
    assert demo.stop() == 0
    assert demo.descendants() == []
    assert not (demo.state / "servers.json").exists()
