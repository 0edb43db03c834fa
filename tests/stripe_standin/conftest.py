"""A stand-in of its own for each test; a violation of Stripe's document fails the test that caused it."""

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import stripe

from stripe_standin.clock import Ticker
from stripe_standin.server import Server
from stripe_standin.world import World
from tests.stripe_standin.openapi import judge

KEY = "sk_test_" + "standin0" * 4


class StandIn:
    """The server, the real client pointed at it, and its private controls."""

    def __init__(self, server: Server) -> None:
        self.world, self.url = server.world, server.world.base
        self.client = self.client_with(retries=0)
        self.api = self.client.v1

    def client_with(self, *, retries: int, timeout: float = 10) -> stripe.StripeClient:
        http = stripe.RequestsClient(timeout=timeout)
        return stripe.StripeClient(
            KEY,
            base_addresses={"api": self.url},
            max_network_retries=retries,
            http_client=http,
            stripe_version="2026-05-27.dahlia",
        )

    def control(self, method: str, name: str, /, **sent: Any) -> Any:
        body = json.dumps(sent).encode() if sent else None
        request = urllib.request.Request(f"{self.url}/_standin/{name}", body, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def advance(self, clock: str, to: int) -> None:
        """Move a test clock and wait until everything due was done."""
        self.api.test_helpers.test_clocks.advance(clock, {"frozen_time": to})
        deadline = time.monotonic() + 20
        while self.api.test_helpers.test_clocks.retrieve(clock).status != "ready":
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def violations(self) -> list[str]:
        found: list[str] = self.control("GET", "violations")["violations"]
        return found


@pytest.fixture
def standin() -> Iterator[StandIn]:
    world = World(deterministic=True, judge=judge)
    world.settings.webhook_backoff = 0.02
    server = Server(0, world)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    ticker = Ticker(world, every=0.1)
    ticker.start()
    made = StandIn(server)
    yield made
    found = made.violations()
    ticker.stop()
    server.shutdown()
    server.server_close()
    world.hooks.close()
    assert found == []


class Receiver:
    """An endpoint that keeps what it was sent and answers as told."""

    def __init__(self) -> None:
        self.got: list[tuple[bytes, str]] = []
        self.statuses: list[int] = []  # answered first, then 200 for ever
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((body, self.headers["Stripe-Signature"]))
                self.send_response(outer.statuses.pop(0) if outer.statuses else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    def types(self) -> list[str]:
        return [json.loads(body)["type"] for body, _ in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


class Shop:
    """What the tests sell: Starter at 49 USD a month, and calls: 50,000 included, then 0.001 USD each."""

    def __init__(self, standin: StandIn) -> None:
        self._api = standin.api
        self.meter = self._api.billing.meters.create(
            {"display_name": "API calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
        )
        self.starter = self.flat("Starter", 4900)
        self.calls = self.graduated(self.meter.id)

    def flat(self, name: str, amount: int, currency: str = "usd", interval: str = "month") -> stripe.Price:
        product = self._api.products.create({"name": name})
        return self._api.prices.create(
            {
                "product": product.id,
                "currency": currency,
                "unit_amount": amount,
                "recurring": {"interval": interval},  # type: ignore[typeddict-item]
            }
        )

    def graduated(self, meter: str, included: int = 50_000, unit: str = "0.1") -> stripe.Price:
        product = self._api.products.create({"name": "API calls"})
        return self._api.prices.create(
            {
                "product": product.id,
                "currency": "usd",
                "billing_scheme": "tiered",
                "tiers_mode": "graduated",
                "recurring": {"interval": "month", "usage_type": "metered", "meter": meter},
                "tiers": [
                    {"up_to": included, "unit_amount": 0},
                    {"up_to": "inf", "unit_amount_decimal": unit},
                ],  # type: ignore[typeddict-item]
            }
        )

    def use(self, customer: str, quantity: int, at: int, identifier: str) -> None:
        self._api.billing.meter_events.create(
            {
                "event_name": "calls",
                "identifier": identifier,
                "timestamp": at,
                "payload": {"stripe_customer_id": customer, "value": str(quantity)},
            }
        )


@pytest.fixture
def shop(standin: StandIn) -> Shop:
    return Shop(standin)


START = 1_768_478_400  # 2026-01-15 12:00:00 UTC
FEBRUARY = 1_771_156_800  # a month later, to the second
DAY = 86_400


@pytest.fixture
def buyer(standin: StandIn) -> Callable[..., tuple[stripe.Customer, str]]:
    """`buyer(card="pm_card_visa")`: a customer with a default card on a test clock that stands at START."""

    def make(card: str = "pm_card_visa") -> tuple[stripe.Customer, str]:
        clock = standin.api.test_helpers.test_clocks.create({"frozen_time": START}).id
        customer = standin.api.customers.create({"email": "alice@example.com", "test_clock": clock})
        if card:
            give_card(standin, customer.id, card)
        return customer, clock

    return make


def give_card(standin: StandIn, customer: str, card: str) -> stripe.PaymentMethod:
    method = standin.api.payment_methods.attach(card, {"customer": customer})
    standin.api.customers.update(customer, {"invoice_settings": {"default_payment_method": method.id}})
    return method
