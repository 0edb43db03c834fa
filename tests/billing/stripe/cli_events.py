"""Stripe's own command line program triggers each event that we handle, and they come through our webhook endpoint.

    npm install @stripe/cli
    python -m tests.billing.stripe.cli_events --cli node_modules/@stripe/cli-linux-x64/bin/stripe

The portal runs as it does for customers (gunicorn, PostgreSQL, dj-stripe), the stand-in signs and delivers. For each event type: whether
Stripe's fixture ran through, how many events of the type were delivered, how many of these were answered 200, and how many
dj-stripe has stored. All are of customers that are not ours, so at the end our own customer has to be as it was.
Exits 1 when anything is missing, 2 when Stripe's program is.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import django

from deploy.local import programs
from tests.billing.stripe.machine import Machine, again_with_servers, machine_of_its_own, settings_of
from tests.stripe_standin.cli_fixtures import trigger

# Handled, and Stripe's program has no fixture for them (version 1.52).
NO_FIXTURE = (
    "customer.subscription.resumed",
    "invoice.finalization_failed",
    "payment_method.automatically_updated",
    "refund.created",
    "refund.updated",
    "refund.failed",
    "customer.tax_id.created",
    "customer.tax_id.updated",
    "customer.tax_id.deleted",
)
# Thin; its fixture asks another host than `--api-base` names, so the bad usage comes by the API.
METER_REPORT = "v1.billing.meter.error_report_triggered"
REPORT_SECONDS = 3  # the stand-in gathers errors for a moment
OURS = (
    "StripeCustomer", "StripeSubscription", "StripeInvoice", "StripeItem", "StripeUsage", "StripeFinding", "PaymentEntry",
)  # fmt: skip


@dataclass
class Heard:
    """What became of one event type. `others`: events of other types that the same fixture caused, not answered 200."""

    event: str
    failed: str
    delivered: int
    answered: int
    stored: int
    others: int

    @property
    def is_good(self) -> bool:
        whole = 0 < self.delivered == self.answered == self.stored
        return not self.failed and whole and not self.others

    def __str__(self) -> str:
        if self.failed:
            return f"{self.event}: FAILED {self.failed}"
        line = f"triggered, delivered {self.delivered}, answered 200 {self.answered}, stored {self.stored}"
        return f"{self.event}: {line}" + (f", OTHERS NOT ANSWERED 200: {self.others}" if self.others else "")


def hear(machine: Machine, cli: str, event: str) -> Heard:
    """Trigger it, wait until everything is delivered, and look."""
    from djstripe.models import Event, WebhookEventTrigger

    before = len(machine.control("hooks")["log"])
    failed = _use_badly() if event == METER_REPORT else trigger(cli, machine.ports.stripe_url, event)
    machine.control("hooks/wait", "POST", {"seconds": 25})
    log = machine.control("hooks")["log"][before:]
    own = [one for one in log if one["type"] == event]
    good = {one["event"] for one in own if one["status"] == 200}
    stored = WebhookEventTrigger.objects.filter(valid=True, processed=True, event__id__in=good)
    return Heard(
        event, failed, len({one["event"] for one in own}), len(good),
        len(good) if event == METER_REPORT else min(stored.count(), Event.objects.filter(id__in=good).count()),
        sum(one["status"] != 200 for one in log if one not in own),
    )  # fmt: skip


def _use_badly() -> str:
    """Usage of a customer whom nobody knows, on a meter that is not ours."""
    from billing.stripe.client import stripe_client

    client, name = stripe_client(), "somebody_elses_meter"
    meter: Any = {"display_name": name, "event_name": name, "default_aggregation": {"formula": "sum"}}
    client.v1.billing.meters.create(meter)
    payload = {"stripe_customer_id": "cus_nobody", "value": "1"}
    client.v1.billing.meter_events.create({"event_name": name, "payload": payload})
    time.sleep(REPORT_SECONDS)
    return ""


def ours() -> dict[str, list[Any]]:
    """All that we know of customers of ours."""
    from django.apps import apps

    found = {name: list(apps.get_model("billing", name).objects.order_by("pk").values()) for name in OURS}
    subscriptions = apps.get_model("plans", "Subscription").objects.order_by("pk")
    return found | {"Subscription": list(subscriptions.values())}


@contextmanager
def running() -> Iterator[Machine]:
    """Portal and stand-in, which has our endpoints, and a customer of ours who pays. Servers are those of DATABASE_URL and
    REDIS_URL."""
    with machine_of_its_own() as machine:
        os.environ |= settings_of(machine.ports)
        machine.start_stripe()
        django.setup()
        _one_of_ours(machine)
        machine.start(programs.web(machine.ports, _secrets(machine), reload=False))
        yield machine


def _one_of_ours(machine: Machine) -> None:
    from tests.billing.stripe.conftest import Standin
    from tests.billing.stripe.payer import Payer

    Payer.start(Standin(machine.ports.stripe_url)).subscribe()


def _secrets(machine: Machine) -> dict[str, str]:
    """As docs/stripe.md asks for it: an endpoint, and a destination of thin events, each with its secret."""
    from billing.stripe.client import stripe_client
    from billing.stripe.events import HANDLED

    address = f"{machine.ports.portal_url}/webhooks/stripe"
    hook: Any = {"url": address, "enabled_events": HANDLED}
    thin = stripe_client().raw_request(
        "post", "/v2/core/event_destinations", name="Farebox", type="webhook_endpoint", event_payload="thin",
        enabled_events=[METER_REPORT], webhook_endpoint={"url": address}, include=["webhook_endpoint.signing_secret"],
    ).data  # fmt: skip
    return {
        "STRIPE_WEBHOOK_SECRET": str(stripe_client().v1.webhook_endpoints.create(hook).secret),
        "STRIPE_THIN_WEBHOOK_SECRET": thin["webhook_endpoint"]["signing_secret"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.billing.stripe.cli_events", description=__doc__)
    parser.add_argument("--cli", default=os.environ.get("STRIPE_CLI") or shutil.which("stripe"))
    parser.add_argument("events", nargs="*", help="only these")
    options = parser.parse_args()
    if not options.cli or not Path(options.cli).exists():
        _say("NOT RUN: Stripe's CLI was not found (npm install @stripe/cli, then --cli).")
        return 2
    if "DATABASE_URL" not in os.environ:
        return again_with_servers("tests.billing.stripe.cli_events")
    with running() as machine:
        good = run(machine, options.cli, options.events)
    return 0 if good else 1


def run(machine: Machine, cli: str, only: list[str]) -> bool:
    from billing.models import StripeFinding
    from billing.stripe.events import HANDLED

    before = ours()
    found = []
    for event in only or HANDLED:
        if event in NO_FIXTURE:
            _say(f"{event}: not triggered, Stripe's program has no fixture for it")
            continue
        found.append(hear(machine, cli, event))
        _say(str(found[-1]))
    touched = [name for name, rows in ours().items() if rows != before[name]]
    if not only:  # last: a report is for staff, so it leaves a finding
        found.append(hear(machine, cli, METER_REPORT))
        _say(
            f"{found[-1]} (made by the API; its finding is open: {StripeFinding.objects.count() - len(before['StripeFinding'])})"
        )
    violations = machine.control("violations")["violations"]
    good = sum(one.is_good for one in found)
    _say(f"{good} of {len(found)} event types: delivered, signature accepted, answered 200, stored")
    _say(f"effect of strangers' events on our customer: {', '.join(touched) or 'none'}")
    _say(f"violations of Stripe's document: {len(violations)}")
    for one in violations:
        _say(f"  {one}")
    return good == len(found) and not touched


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
