"""`manage.py stripe_reconcile [--mend] [--organization org_...]`: Stripe held against us, as every night."""

import sys
from collections import Counter
from typing import Any

import stripe
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Organization
from billing.stripe.client import is_configured
from billing.stripe.reconcile import find_unlike, mend_unlike
from billing.stripe.reconcile_checks import Unlike
from core.clock import now


class Command(BaseCommand):
    help = (
        "Hold Stripe's customers, subscriptions, prices, invoices, items, payments and usage against ours; exits 1 when anything"
        " differs. With --mend: make it so, and exit 1 only for what is left."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--mend", action="store_true")
        parser.add_argument("--organization", help="Public id (org_...) of one customer.")

    def handle(self, *args: Any, mend: bool, organization: str | None, **options: Any) -> None:
        if not is_configured():
            raise CommandError("Stripe is not set up: set STRIPE_SECRET_KEY (docs/stripe.md).")
        chosen = Organization.objects.filter(public_id=organization).first() if organization else None
        if organization and chosen is None:
            raise CommandError(f"No customer is called {organization}.")
        try:
            if mend:
                done = mend_unlike(at=now(), organization=chosen)
                self._print("mended", done.mended)
                left = done.left
            else:
                left = find_unlike(at=now(), organization=chosen)
        except stripe.StripeError as error:
            raise CommandError(f"Stripe did not answer: {error.user_message or error}") from None
        self._print("differs", left)
        if left:
            sys.exit(1)

    def _print(self, verb: str, found: list[Unlike]) -> None:
        for one in found:
            self.stdout.write(f"{verb}: {one}")
        counts = Counter(one.what for one in found)
        words = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
        self.stdout.write(f"{len(found)} {verb}" + (f" ({words})" if words else ""))
