"""HTTP: requests of the API, the pages for browsers, and the private controls under `/_standin/`."""

import base64
import hashlib
import json
import re
import socket
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from stripe_standin import control, pages, resources, routing
from stripe_standin.errors import StripeError, invalid
from stripe_standin.faults import Fault
from stripe_standin.pages.response import Page
from stripe_standin.params import Params, decode
from stripe_standin.render import render
from stripe_standin.world import API_VERSION, DAY, World

resources.load()
_TEST_KEY = re.compile(r"^(sk|rk)_test_\w{8,}$")
_KEPT_REFUSALS = (402,)  # answers with other 4xx are not kept for an idempotency key


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, world: World) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.world = world
        world.base = f"http://127.0.0.1:{self.server_address[1]}"


class _Dropped(Exception):
    """The connection is closed without an answer."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "stripe-standin"
    sys_version = ""
    wbufsize = -1  # head and body leave in one packet
    timeout = 120
    server: Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Requests are counted (`/_standin/requests`), not printed."""

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_DELETE = do_GET

    def _answer(self) -> None:
        self.world = self.server.world
        split = urlsplit(self.path)
        self.route, self.query = split.path, split.query
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        try:
            if self.route.startswith(("/v1/", "/v2/")):
                self._api()
            elif self.route.startswith("/_standin"):
                status, answer = control.answer(self.world, self.command, self.route, self.body)
                self._json(status, answer)
            else:
                with self.world.lock:
                    self._page(pages.answer(self.world, self.command, self.route, self.query, self.body))
                    self.world.store.dirty = True
        except _Dropped:
            self.close_connection = True
            self.connection.close()
        except BrokenPipeError:
            self.close_connection = True

    # The API ----------------------------------------------------------------------------------------------------

    def _api(self) -> None:
        world = self.world
        request_id = world.store.new_id("req")
        key = self.headers.get("Idempotency-Key", "")
        with world.lock:
            name = f"{self.command} {re.sub(r'/[a-z0-9]+_[A-Za-z0-9_]+', '/{id}', self.route)}"
            world.requests[name] = world.requests.get(name, 0) + 1
            fault = world.faults.for_request(self.command, self.route)
            self._check_version()
        replayed = False
        try:
            self._authenticate()
            kept = self._claim(key)
            if kept:
                status, answer, replayed = kept["status"], kept["answer"], True
            else:
                status, answer = self._run(key, request_id, fault)
        except StripeError as error:
            status, answer = error.status, error.body()
        if world.judge:
            found = world.judge(self.command, self.route, self.query, self.body, status, answer)
            with world.lock:
                world.violations += found
        headers = {"Request-Id": request_id, "Stripe-Version": API_VERSION}
        if key:
            headers["Idempotency-Key"] = key
        if replayed:
            headers["Idempotent-Replayed"] = "true"
        self._json(status, answer, headers)

    def _check_version(self) -> None:
        """Answers have one version's shape; whoever asks for another would be misled. Stripe's CLI asks for its own."""
        asked = self.headers.get("Stripe-Version", API_VERSION)
        if asked != API_VERSION and "stripe-cli" not in self.headers.get("User-Agent", "").lower():
            self.world.violations.append(f"{self.command} {self.route}: asked for API version {asked}")

    def _authenticate(self) -> None:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme == "Basic":
            token = base64.b64decode(token).decode().partition(":")[0]
        if not token:
            raise invalid("You did not provide an API key.", status=401)
        if not _TEST_KEY.match(token):
            raise invalid(
                "Invalid API Key provided: the stand-in takes test keys only (sk_test_..., rk_test_...).",
                status=401,
            )

    def _claim(self, key: str) -> dict[str, Any] | None:
        """What an earlier request with this key was answered, or None after taking the key for this one."""
        if not key or self.command != "POST":
            return None
        with self.world.lock:
            table = self.world.store.table("_idempotency")
            digest = hashlib.sha256(f"{self.route}\n{self.body}".encode()).hexdigest()
            now = int(time.time()) + self.world.offset
            known = table.get(key)
            if known is None or known["at"] < now - DAY:
                table[key] = {"digest": digest, "at": now, "status": None, "answer": None}
                return None
            if known["digest"] != digest:
                raise StripeError(
                    400,
                    "idempotency_error",
                    "Keys for idempotent requests can only be used with the same parameters they were first used with."
                    f" Try using a key other than '{key}' if you meant to execute a different request.",
                )
            if known["status"] is None:
                raise StripeError(
                    409,
                    "idempotency_error",
                    "There is currently another in-progress request using this Idempotent Key.",
                    code="idempotency_key_in_use",
                )
            return dict(known)

    def _run(self, key: str, request_id: str, fault: Fault | None) -> tuple[int, Any]:
        answered: tuple[int, Any] | None = None
        try:
            with self._one_at_a_time(fault):
                self._before(fault)
                answered = self._execute(key, request_id)
            if fault and fault.kind == "error_after":
                answered = 500, _broken().body()
            return answered
        finally:
            self._keep(key, answered)
            if fault and fault.kind == "timeout_after":
                time.sleep(fault.seconds)
                raise _Dropped

    @contextmanager
    def _one_at_a_time(self, fault: Fault | None) -> Iterator[None]:
        """Stripe takes one meter event at a time for a customer and a meter, and answers 429 to others meanwhile."""
        if self.route != "/v1/billing/meter_events" or (fault and fault.kind.startswith("timeout")):
            yield
            return
        sent = decode(self.body)
        payload = sent.get("payload")
        place = f"{sent.get('event_name')}|{payload.get('stripe_customer_id') if isinstance(payload, dict) else ''}"
        with self.world.lock:
            if place in self.world.busy:
                raise StripeError(
                    429, "invalid_request_error", "Another meter event is being taken.", code="lock_timeout"
                )
            self.world.busy.add(place)
        try:
            yield
        finally:
            with self.world.lock:
                self.world.busy.discard(place)

    def _before(self, fault: Fault | None) -> None:
        if fault is None:
            return
        if fault.kind == "timeout_before":
            time.sleep(fault.seconds)
            raise _Dropped
        if fault.kind == "slow":
            time.sleep(fault.seconds)
        if fault.kind == "rate_limit":
            raise StripeError(429, "invalid_request_error", "Request rate limit exceeded.", code="rate_limit")
        if fault.kind == "error":
            raise _broken()

    def _execute(self, key: str, request_id: str) -> tuple[int, Any]:
        world = self.world
        with world.lock:
            world.request = {"id": request_id, "idempotency_key": key or None}
            try:
                return 200, self._handle()
            except StripeError as error:
                return error.status, error.body()
            except (
                Exception
            ):  # a fault of the stand-in: shown to whoever asks for violations, answered as Stripe would
                world.violations.append(f"{self.command} {self.route}: {traceback.format_exc()}")
                return 500, _broken().body()
            finally:
                world.request = {"id": None, "idempotency_key": None}
                world.store.dirty = world.store.dirty or self.command != "GET"

    def _handle(self) -> Any:
        handler = routing.find(self.command, self.route)
        if handler is None:
            raise invalid(f"Unrecognized request URL ({self.command}: {self.route}).", status=404)
        params = Params(self._parameters())
        expand = params.texts("expand")
        answer = handler(self.world, params)
        for name in params.unread():
            self.world.violations.append(
                f"{self.command} {self.route}: the stand-in ignores the parameter {name}"
            )
        if self.route.startswith("/v2/"):
            return answer
        return render(self.world, answer, expand)

    def _parameters(self) -> dict[str, Any]:
        sent = decode(self.query)
        if self.headers.get("Content-Type", "").startswith("application/json"):
            return sent | (json.loads(self.body) if self.body else {})
        return sent | decode(self.body)

    def _keep(self, key: str, answered: tuple[int, Any] | None) -> None:
        if not key or self.command != "POST":
            return
        with self.world.lock:
            table = self.world.store.table("_idempotency")
            if answered and (answered[0] == 200 or answered[0] >= 500 or answered[0] in _KEPT_REFUSALS):
                table[key] |= {"status": answered[0], "answer": answered[1]}
            else:
                table.pop(key, None)

    # Answers ----------------------------------------------------------------------------------------------------

    def _json(self, status: int, answer: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, "application/json", json.dumps(answer, indent=2).encode(), headers or {})

    def _page(self, page: Page) -> None:
        self._send(page.status, page.content_type, page.body, page.headers)

    def _send(self, status: int, content_type: str, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


def _broken() -> StripeError:
    return StripeError(500, "api_error", "An unknown error occurred (injected by the stand-in).")
