"""As a process: state over a restart, webhooks by command line, loopback only; and the judge's own eyes."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import stripe

from stripe_standin.shapes import new
from tests.stripe_standin.conftest import KEY, Receiver
from tests.stripe_standin.openapi import document, judge

ROOT = Path(__file__).resolve().parents[2]


def start(*arguments: str) -> tuple["subprocess.Popen[str]", str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "stripe_standin", "--port", "0", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().removeprefix("stripe-standin: ").strip()


def stop(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert process.stdout is not None
    process.stdout.close()


def test_state_outlives_the_process_and_webhooks_go_out(tmp_path: Path, receiver: Receiver) -> None:
    state = tmp_path / "stripe.json"
    arguments = ["--state", str(state), "--webhook", receiver.url, "--webhook-secret", "whsec_given"]
    process, url = start(*arguments)
    assert url.startswith("http://127.0.0.1:")
    client = stripe.StripeClient(KEY, base_addresses={"api": url})
    customer = client.v1.customers.create({"name": "Kept"})
    stop(process)

    process, url = start(*arguments)
    client = stripe.StripeClient(KEY, base_addresses={"api": url})
    assert client.v1.customers.retrieve(customer.id).name == "Kept"
    assert len(client.v1.webhook_endpoints.list().data) == 1
    client.v1.customers.update(customer.id, {"name": "Changed"})
    deadline = time.monotonic() + 5
    while "customer.updated" not in receiver.types():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    body, signature = receiver.got[-1]
    assert stripe.Webhook.construct_event(body, signature, "whsec_given").type == "customer.updated"
    with urllib.request.urlopen(urllib.request.Request(f"{url}/_standin/reset", method="POST")) as answer:
        assert json.load(answer) == {"ok": True}
    assert client.v1.customers.list().data == []
    stop(process)


def product(**fields: Any) -> dict[str, Any]:
    return new("product", id="prod_1", name="A", created=1, updated=1) | fields


def test_the_judge_sees_invented_and_mistyped_fields() -> None:
    assert document()["version"] == "2026-05-27.dahlia"
    assert judge("GET", "/v1/products/prod_1", "expand[]=default_price", "", 200, product()) == []
    invented = judge("GET", "/v1/products/prod_1", "", "", 200, product(price=5))
    assert "'price' was unexpected" in invented[0]
    assert judge("GET", "/v1/products/prod_1", "", "", 200, product(name=None)) != []
    assert judge("POST", "/v1/products", "", "name=A&colour=red", 200, product()) != []
    assert judge("POST", "/v1/products", "", "name=A&active=perhaps", 200, product()) != []
    assert judge("GET", "/v1/nothing", "", "", 200, {}) == [
        "GET /v1/nothing: Stripe's document has no such operation"
    ]


def test_the_judge_looks_into_events() -> None:
    event = new(
        "event",
        id="evt_1",
        created=1,
        data={"object": product(extra=1)},
        pending_webhooks=0,
        type="product.created",
    )
    found = judge("GET", "/v1/events/evt_1", "", "", 200, event)
    assert found == [
        "GET /v1/events/evt_1: answer 200: event product.created: : Additional properties are not allowed ('extra' was unexpected)"
    ]
