"""`manage.py seed`: the demo's world, made through the product's own acts and its ledger's own code."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from accounts.models import Organization, User
from billing.stripe.catalogue_apply import apply_catalogue
from billing.stripe.client import is_configured
from core.clock import now
from dashboard.seeding.companies import COMPANIES
from dashboard.seeding.money import bill_the_past, cap_spending, set_costs
from dashboard.seeding.traffic import HISTORY_DAYS
from dashboard.seeding.world import (
    CAST,
    PASSWORD,
    STAFF_EMAIL,
    Customer,
    history,
    issue_demo_key,
    make_catalogue,
    make_customer,
    make_person,
)
from dashboard.snippets import first_call_url
from metering.services import ingest_history
from plans.default_catalogue import CALLS_METER
from plans.models import Meter, Route


class Command(BaseCommand):
    help = "Fill an empty installation with a living demo: some 20 customers with 90 days of usage."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--if-empty", action="store_true", help="do nothing when there are organizations")
        parser.add_argument("--upstream", default="http://127.0.0.1:9100", help="address of the sample API")
        parser.add_argument("--customers", type=int, default=len(COMPANIES), help="how many of the customers")

    def handle(self, *_: Any, if_empty: bool, upstream: str, customers: int, **__: Any) -> None:
        if Organization.objects.exists():
            if not if_empty:
                self.stderr.write("There are organizations already; the seed is for an empty installation.")
            return
        at = now()
        since = at - timedelta(days=HISTORY_DAYS + 30)
        routes = make_catalogue(upstream_url=upstream, at=since)
        set_costs(routes, at=since)
        make_person(STAFF_EMAIL, "Sam Staff", is_staff=True)
        made = [make_customer(company, at=at) for company in COMPANIES[:customers]]
        self._fill(made, routes)
        alice = User.objects.get(email=next(iter(CAST)))
        self._bill(made[0], alice, since)
        self._write_demo_file(made[0], alice)
        if is_configured():
            made_at_stripe = apply_catalogue(at=now())
            self.stdout.write(f"the catalogue is at Stripe: {len(made_at_stripe.done)} objects made")

    def _fill(self, customers: list[Customer], routes: list[Route]) -> None:
        meter, at = Meter.objects.get(slug=CALLS_METER), now()
        total = sum(ingest_history(history(one, routes, meter, at=at), at=at).stored for one in customers)
        self.stdout.write(f"{len(customers)} customers with {total} usage events")

    def _bill(self, first: Customer, alice: User, since: datetime) -> None:
        at = now()
        made = bill_the_past(since=since, at=at)
        cap_spending(first.organization, by=alice, at=at)
        self.stdout.write(f"{made} statements, finalised as their periods ended")

    def _write_demo_file(self, customer: Customer, alice: User) -> None:
        """`var/demo.json`: addresses, logins and a ready key; readable by its owner only."""
        issued = issue_demo_key(customer.organization, by=alice, at=now())
        path = Path(settings.VAR_DIR) / "demo.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(
            json.dumps(
                {
                    "portal": settings.PORTAL_URL,
                    "gateway": settings.GATEWAY_URL,
                    "key": issued.clear,
                    "curl_url": first_call_url(),
                    "customer": {"email": alice.email, "password": PASSWORD},
                    "staff": {"email": STAFF_EMAIL, "password": PASSWORD},
                },
                indent=2,
            )
        )
