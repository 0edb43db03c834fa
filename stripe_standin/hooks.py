"""Webhooks: signed as Stripe signs, delivered by several senders at once (order is not promised), retried with growing pauses.

Only loopback addresses are ever called; an endpoint elsewhere is counted as skipped.
"""

import hashlib
import hmac
import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stripe_standin.store import Obj

if TYPE_CHECKING:
    from stripe_standin.world import World

_SENDERS = 4
_ANSWER_WITHIN = 15.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def signature(body: bytes, secret: str, at: int) -> str:
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


class Hooks:
    def __init__(self, world: "World") -> None:
        self._world = world
        self._pool = ThreadPoolExecutor(_SENDERS, thread_name_prefix="webhook")
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._closed = False
        self._pending = 0
        self._idle = threading.Condition()
        self.thin: tuple[str, str] | None = None  # address and secret for thin events
        self.counters = {"delivered": 0, "failed": 0, "given_up": 0, "skipped": 0, "lost": 0}
        self.log: list[Obj] = []

    def send(self, event: Obj) -> None:
        """Queue `event` for every endpoint that wants its type. The world's lock is held."""
        for endpoint in self._world.store.where("webhook_endpoint", status="enabled"):
            wanted = endpoint["enabled_events"]
            if "*" in wanted or event["type"] in wanted:
                event["pending_webhooks"] += 1
                self._send_one(
                    event["id"],
                    event["type"],
                    json.dumps(event, indent=2).encode(),
                    endpoint["url"],
                    endpoint["_secret"],
                )

    def resume(self) -> None:
        """Send again what was not taken when the process ended."""
        for event in list(self._world.store.where("event", lambda each: each["pending_webhooks"] > 0)):
            event["pending_webhooks"] = 0
            self.send(event)

    def send_thin(self, payload: Obj) -> None:
        targets = [
            (each["webhook_endpoint"]["url"], each["_secret"])
            for each in self._world.store.where("v2.core.event_destination", status="enabled")
            if payload["type"] in each["enabled_events"]
        ]
        for url, secret in targets + ([self.thin] if self.thin else []):
            self._send_one(payload["id"], payload["type"], json.dumps(payload).encode(), url, secret)

    def _send_one(self, event_id: str, kind: str, body: bytes, url: str, secret: str) -> None:
        fault = self._world.faults.for_webhook(kind)
        if fault and fault.kind == "webhook_lost":
            self.counters["lost"] += 1
            self._delivered(event_id)  # as far as Stripe knows
            return
        delay = fault.seconds if fault and fault.kind == "webhook_delayed" else 0.0
        for _ in range(2 if fault and fault.kind == "webhook_doubled" else 1):
            self._queue(delay, event_id, kind, body, url, secret, 1)

    def _queue(self, delay: float, *job: object) -> None:
        with self._idle:
            self._pending += 1
        if delay:
            timer = threading.Timer(delay, self._submit, job)
            timer.daemon = True
            timer.start()
        else:
            self._submit(*job)

    def _submit(self, *job: object) -> None:
        if self._closed:
            self._done()
        else:
            self._pool.submit(self._deliver, *job)  # type: ignore[arg-type]

    def _done(self) -> None:
        with self._idle:
            self._pending -= 1
            self._idle.notify_all()

    def wait(self, seconds: float) -> bool:
        """True when nothing is queued, in the air or waiting for another attempt."""
        with self._idle:
            return self._idle.wait_for(lambda: self._pending == 0, seconds)

    @property
    def pending(self) -> int:
        return self._pending

    def _deliver(self, event_id: str, kind: str, body: bytes, url: str, secret: str, attempt: int) -> None:
        try:
            if urlsplit(url).hostname not in _LOOPBACK:
                self._count("skipped", event_id, kind, url, 0)
                return
            status = self._post(url, body, secret)
            if 200 <= status < 300:
                self._count("delivered", event_id, kind, url, status)
                self._delivered(event_id)
                return
            self._count("failed", event_id, kind, url, status)
            settings = self._world.settings
            if attempt < settings.webhook_attempts and not self._closed:
                pause = settings.webhook_backoff * 2 ** (attempt - 1)
                self._queue(pause, event_id, kind, body, url, secret, attempt + 1)
            else:
                self._count("given_up", event_id, kind, url, status)
        finally:
            self._done()

    def _post(self, url: str, body: bytes, secret: str) -> int:
        """The status answered; 0 when there was no answer."""
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            "Stripe-Signature": signature(body, secret, int(time.time())),
        }
        request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310 - loopback only
        try:
            with self._opener.open(request, timeout=_ANSWER_WITHIN) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except (OSError, http.client.HTTPException):
            return 0

    def _count(self, name: str, event_id: str, kind: str, url: str, status: int) -> None:
        with self._idle:
            self.counters[name] += 1
            self.log.append({"event": event_id, "type": kind, "url": url, "outcome": name, "status": status})
            del self.log[:-2000]

    def _delivered(self, event_id: str) -> None:
        with self._world.lock:
            event = self._world.store.peek("event", event_id)
            if event and event["pending_webhooks"]:
                event["pending_webhooks"] -= 1

    def close(self) -> None:
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
