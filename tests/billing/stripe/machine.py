"""Processes of one machine that a proof starts for itself: the product's own, and the stand-in for Stripe beside them."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deploy.local.ports import free_port
from deploy.local.process import Program, spawn, stop, wait_ready
from deploy.local.programs import Ports

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Machine:
    """The running processes, and the clock that Stripe and beats have in common (seconds ahead of the machine's)."""

    folder: Path
    ports: Ports
    running: dict[str, tuple[Program, "subprocess.Popen[bytes]"]] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)

    def start(self, program: Program) -> None:
        log = self.folder / f"{program.name}.log"
        self.running[program.name] = program, (process := spawn(program, log))
        wait_ready(program, process, log)

    def stop(self, name: str) -> None:
        stop(*self.running.pop(name))

    def stop_all(self) -> None:
        for name in reversed(list(self.running)):
            self.stop(name)

    def start_stripe(self) -> None:
        judge = ["--judge", "tests.stripe_standin.openapi:judge"]
        argv = [sys.executable, "-m", "stripe_standin", "--port", str(self.ports.stripe), *judge]
        argv += ["--state", str(self.folder / "stripe.json")]
        self.start(Program(name="stripe", argv=argv, cwd=ROOT, ready=self._stripe_answers))

    def _stripe_answers(self) -> bool:
        try:
            return bool(self.control("health")["ok"])
        except OSError:
            return False

    def control(self, path: str, method: str = "GET", sent: dict[str, Any] | None = None) -> Any:
        body = json.dumps(sent or {}).encode() if method != "GET" else None
        request = urllib.request.Request(f"{self.ports.stripe_url}/_standin/{path}", body, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    @property
    def clock(self) -> Path:
        return self.folder / "clock"

    def set_clock(self, ahead: int) -> None:
        partial = self.clock.with_suffix(".partial")
        partial.write_text(str(ahead))
        partial.replace(self.clock)

    def ahead(self) -> int:
        return int(self.clock.read_text())

    def pass_time(self, span: timedelta) -> None:
        """Stripe's clock first: it takes nothing from the future."""
        self.control("clock/advance", "POST", {"seconds": int(span.total_seconds())})
        self.set_clock(self.ahead() + int(span.total_seconds()))


@contextmanager
def machine_of_its_own() -> Iterator[Machine]:
    """Nothing runs on it yet; what was started is stopped after the block."""
    ports = Ports(web=free_port(), gateway=free_port(), upstream=free_port(), stripe=free_port())
    with TemporaryDirectory(prefix="farebox-proof-") as name:
        machine = Machine(Path(name), ports)
        machine.set_clock(0)
        try:
            yield machine
        finally:
            machine.stop_all()


def settings_of(ports: Ports) -> dict[str, str]:
    """The environment of the product on such a machine, configured for the stand-in."""
    return {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "STRIPE_SECRET_KEY": "sk_test_" + "proofs00" * 4,
        "STRIPE_API_HOST": ports.stripe_url,
        "FAREBOX_PORTAL_URL": ports.portal_url,
        "FAREBOX_GATEWAY_URL": ports.gateway_url,
        "HTTPS_ONLY": "0",
        "EMAIL_URL": "dummymail://",
        "LOG_LEVEL": "WARNING",
    }


def again_with_servers(module: str) -> int:
    """Run this command once more, with servers of its own; its status."""
    command = [
        sys.executable,
        "-m",
        "deploy.local",
        "with-servers",
        sys.executable,
        "-m",
        module,
        *sys.argv[1:],
    ]
    return subprocess.run(command, cwd=ROOT, check=False).returncode
