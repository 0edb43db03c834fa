"""`manage.py stripe_send [--organization org_...]`: tell Stripe now what was used, as the beat does every hour."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Organization
from billing.stripe.client import is_configured
from billing.stripe.sender import send_usage
from billing.stripe.usage import fill_usage
from core.clock import now


class Command(BaseCommand):
    help = "Fill the outbox of usage and send what is due to Stripe; prints the counts."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--organization", help="Public id (org_...) of one customer.")
        parser.add_argument("--limit", type=int, help="At most so many rows.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not is_configured():
            raise CommandError("Stripe is not set up: set STRIPE_SECRET_KEY (docs/stripe.md).")
        organizations = _organizations(options["organization"])
        at = now()
        filled = fill_usage(at=at, organizations=organizations)
        done = send_usage(at=at, limit=options["limit"], organizations=organizations)
        self.stdout.write(f"{filled} filled, {done}")
        if done.is_stopped:
            raise CommandError("Stripe did not let anything in; what is left is sent by the next run.")


def _organizations(public_id: str | None) -> list[Organization] | None:
    if not public_id:
        return None
    found = list(Organization.objects.filter(public_id=public_id))
    if not found:
        raise CommandError(f"No customer is called {public_id}.")
    return found
