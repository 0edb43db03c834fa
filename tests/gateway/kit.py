"""A gateway as it is deployed, customers, and what is sold to them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from typing import Any

import orjson

from accounts.models import Organization
from core.redis import usage_redis as usage_client
from core.redis_layout import stream_key
from deploy.local.ports import free_port
from keys.services import IssuedKey
from plans.models import Product, Route
from tests.examples.processes import ROOT, Answer, Api
from tests.factories import create_key, create_organization, create_plan, create_product, create_route

_number = count(1)
SLUG = "bad"
_ENVIRONMENT = {"FORWARDED_ALLOW_IPS": "192.0.2.1"}  # uvicorn believes X-Forwarded-For of loopback otherwise
METHODS = ("GET", "POST", "PUT")


class Process:
    """`uvicorn gateway.app:app` with the options of production, on a port of its own."""

    def __init__(self, **environment: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        argv = [sys.executable, "-m", "uvicorn", "gateway.app:app", "--port", str(port), "--loop", "uvloop"]
        argv += [
            "--http",
            "gateway.protocol:GuardedProtocol",
            "--ws",
            "none",
            "--no-access-log",
            "--no-server-header",
        ]
        argv += ["--log-level", "warning"]
        self._process = subprocess.Popen(
            [*argv, "--timeout-graceful-shutdown", "5"], cwd=ROOT, env=os.environ | _ENVIRONMENT | environment
        )
        self.api = Api(self.url)

    def wait_until_ready(self) -> "Process":
        def is_ready() -> bool:
            assert self._process.poll() is None
            try:
                return self.api.get("/readyz").status == 200
            except OSError:
                return False

        wait_for(is_ready, within=90)  # several start at once, on a machine that may be busy
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    def rss_kb(self) -> int:
        """Resident memory now."""
        with open(f"/proc/{self._process.pid}/status") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    def kill(self) -> None:
        """As the kernel does it where memory is short: nothing is told to anybody."""
        self._process.kill()
        self._process.wait(15)

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(15)


def wait_for(condition: Callable[[], Any], *, within: float = 5) -> Any:
    """Ask until it is true; returns that answer."""
    deadline = time.monotonic() + within
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.02)
    return answer


@dataclass
class Customer:
    """An organization on a plan of its own, with one key."""

    organization: Organization
    issued: IssuedKey
    api: Api

    def call(
        self, path: str = "/echo", method: str = "GET", body: bytes | None = None, *, key: str | None = None,
        via: Api | None = None, product: str = SLUG, **headers: str,
    ) -> Answer:  # fmt: skip
        """One call with the customer's key; header names are written with `_` for `-`."""
        sent = {"Authorization": f"Bearer {self.issued.clear if key is None else key}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return (via or self.api).send(method, f"/{product}{path}", body=body, headers=sent)

    def events(self) -> list[dict[str, Any]]:
        """What the stream holds of this organization, oldest first, quantities as numbers."""
        entries: Any = usage_client().xrange(stream_key(self.organization.shard))
        events = [orjson.loads(fields[b"e"]) for _, fields in entries]
        return [
            event | {"qty": Decimal(event["qty"])}
            for event in events
            if event["org"] == str(self.organization.pk)
        ]

    def only_event(self) -> dict[str, Any]:
        """The event of the one call that was made; it may come a moment after the answer where that was cut."""
        wait_for(self.events)
        (event,) = self.events()
        return event


@dataclass
class Shop:
    """The catalogue, the gateway that serves it, and the API behind."""

    gateway: Process
    upstream: Api
    product: Product
    routes: dict[str, Route] = field(default_factory=dict)

    def customer(self, *, key: dict[str, Any] | None = None, **plan: Any) -> Customer:
        """A new organization; `plan`: arguments of create_plan."""
        version = create_plan(f"plan{next(_number)}-gateway", **({"per_minute": 1000} | plan))
        organization = create_organization(plan=version.plan.slug)
        issued = create_key(organization=organization, **(key or {}))
        organization.refresh_from_db()
        return Customer(organization, issued, self.gateway.api)

    def log(self) -> list[str]:
        """What reached the API since it was last asked."""
        return list(self.upstream.get("/log").json)


def sell(url: str) -> tuple[Product, dict[str, Route]]:
    product = create_product(SLUG, upstream_url=f"{url}/", credential_header="X-Token", credential="owner's")
    paths: dict[str, dict[str, Any]] = {
        "/pro": {"required_feature": "all_endpoints"},
        "/small": {"body_limit_bytes": 1000},
        "/slow/*": {"timeout_ms": 300},
        "/stall/*": {"timeout_ms": 300},
        "/status/404/billed": {"bill_client_errors": True},
        "/get": {"methods": ("GET",)},
        "/five": {"units": Decimal(5)},
        "/*": {"methods": METHODS, "body_limit_bytes": 200 * 1024 * 1024},
    }
    routes = {
        path: create_route(product, path, position=position, **facts)
        for position, (path, facts) in enumerate(paths.items())
    }
    create_route(create_product("down", upstream_url="http://127.0.0.1:9"), "/*")
    return product, routes
