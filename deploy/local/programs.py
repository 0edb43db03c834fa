"""The processes of Farebox on one machine, as the supervisor starts them."""

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.process import Program

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    web: int
    gateway: int
    upstream: int
    stripe: int = 12111

    @classmethod
    def from_environment(cls) -> "Ports":
        return cls(*(int(os.environ.get(name) or default) for name, default in PORT_VARIABLES.items()))

    def by_variable(self) -> dict[str, int]:
        return dict(zip(PORT_VARIABLES, (self.web, self.gateway, self.upstream, self.stripe), strict=True))

    @property
    def portal_url(self) -> str:
        return f"http://{HOST}:{self.web}"

    @property
    def gateway_url(self) -> str:
        return f"http://{HOST}:{self.gateway}"

    @property
    def stripe_url(self) -> str:
        return f"http://{HOST}:{self.stripe}"

    @property
    def upstream_url(self) -> str:
        return f"http://{HOST}:{self.upstream}"


PORT_VARIABLES = {"PORT_WEB": 8000, "PORT_GATEWAY": 9090, "PORT_UPSTREAM": 9100, "PORT_STRIPE": 12111}


def upstream(ports: Ports, env: Mapping[str, str]) -> Program:
    argv = [sys.executable, "-m", "examples.places", "--port", str(ports.upstream)]
    return Program(
        name="upstream", argv=argv, env=env, cwd=ROOT, ready=_answers(ports.upstream_url, any_status=True)
    )


def stripe_standin(ports: Ports, env: Mapping[str, str], state: Path) -> Program:
    """Payments of the demo: an account at a stand-in, with everything that was paid in earlier starts."""
    argv = [
        sys.executable,
        "-m",
        "stripe_standin",
        "--port",
        str(ports.stripe),
        "--state",
        str(state / "stripe.json"),
    ]
    argv += [
        "--webhook",
        f"{ports.portal_url}/webhooks/stripe",
        "--thin-webhook",
        f"{ports.portal_url}/webhooks/stripe",
    ]
    argv += ["--webhook-secret", env["STRIPE_WEBHOOK_SECRET"]]
    ready = _answers(f"{ports.stripe_url}/_standin/health")
    return Program(name="stripe", argv=argv, env=env, cwd=ROOT, ready=ready)


def web(ports: Ports, env: Mapping[str, str], *, reload: bool) -> Program:
    argv = [sys.executable, "-m", "gunicorn", "config.wsgi:application", "--bind", f"{HOST}:{ports.web}"]
    argv += ["--worker-class", "gthread", "--workers", os.environ.get("WEB_WORKERS", "1"), "--threads", "8"]
    argv += ["--graceful-timeout", "5", "--no-control-socket", *(["--reload"] if reload else [])]
    return Program(name="web", argv=argv, env=env, cwd=ROOT, ready=_answers(f"{ports.portal_url}/readyz"))


def gateway(ports: Ports, env: Mapping[str, str], *, reload: bool) -> Program:
    argv = [sys.executable, "-m", "uvicorn", "gateway.app:app", "--host", HOST, "--port", str(ports.gateway)]
    argv += [
        "--loop",
        "uvloop",
        "--http",
        "gateway.protocol:GuardedProtocol",
        "--no-access-log",
        "--no-server-header",
    ]
    argv += ["--timeout-graceful-shutdown", "5", "--ws", "none"]
    workers = os.environ.get("GATEWAY_WORKERS", "1")
    if reload:
        argv += ["--reload"]
    elif workers != "1":
        argv += ["--workers", workers]
    return Program(
        name="gateway", argv=argv, env=env, cwd=ROOT, ready=_answers(f"{ports.gateway_url}/readyz")
    )


def worker(queue: str, state: Path, env: Mapping[str, str]) -> Program:
    """A Celery worker of one queue. Threads: no pool of processes that could outlive it, and the work waits on I/O."""
    arguments = [
        "worker",
        "--queues",
        queue,
        "--hostname",
        f"{queue}@%h",
        "--pool",
        "threads",
        "--concurrency",
        "2",
    ]
    arguments += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    return _celery(f"worker-{queue}", state, env, arguments)


def beat(state: Path, env: Mapping[str, str]) -> Program:
    return _celery("beat", state, env, ["beat", "--schedule", str(state / "beat-schedule")])


def prepare(env: Mapping[str, str], *, seed: bool) -> Program:
    argv = [sys.executable, "-m", "deploy.local.prepare", *(["--seed"] if seed else [])]
    return Program(name="prepare", argv=argv, env=env, cwd=ROOT)


def _celery(name: str, state: Path, env: Mapping[str, str], arguments: Sequence[str]) -> Program:
    """Celery writes its process id once Django and all tasks are loaded: that is its sign of being ready."""
    pid_file = state / f"{name}.pid"
    argv = [sys.executable, "-m", "celery", "-A", "config.celery:app", *arguments]
    return Program(
        name=name,
        argv=[*argv, "--pidfile", str(pid_file), "--loglevel", "INFO"],
        env=env,
        cwd=ROOT,
        ready=pid_file.exists,
        before_start=lambda: pid_file.unlink(missing_ok=True),  # left by a killed one, it would stop the next
    )


def _answers(url: str, *, any_status: bool = False) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - a loopback address of ours
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return any_status
        except OSError:
            return False

    return ask
