"""The whole product as `make demo` starts it, in a state folder and on ports of its own: for tests of the whole."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from deploy.local.ports import free_port
from deploy.local.programs import PORT_VARIABLES

ROOT = Path(__file__).resolve().parents[1]
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

    def manage(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a management command; it finds this demo's servers by itself."""
        env = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
        env |= {"FAREBOX_VAR_DIR": str(self.state)}
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )

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
