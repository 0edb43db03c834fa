from argparse import ArgumentParser
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from redis.exceptions import RedisError

from accounts.models import User
from core.clock import now
from core.errors import PortalError
from metering.reconcile import plain
from metering.usage_corrections import correct_usage


class Command(BaseCommand):
    help = "Correct an event of the ledger: rows that name it are added, it is never edited. Again changes nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("event", type=UUID, metavar="EVENT_ID")
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--quantity", help="what it should have been, in the meter's unit")
        what.add_argument("--void", action="store_true", help="it should not have been counted at all")
        parser.add_argument("--reason", required=True, help="why; kept in the customer's audit log")
        parser.add_argument("--by", metavar="EMAIL", help="who asks; without it, the system")

    def handle(self, *args: Any, **options: Any) -> None:
        by = None
        if options["by"] and (by := User.objects.filter(email__iexact=options["by"]).first()) is None:
            raise CommandError(f"There is no user {options['by']}.")
        try:
            quantity = None if options["void"] else Decimal(options["quantity"])
            done = correct_usage(
                options["event"], quantity=quantity, reason=options["reason"], by=by, at=now(), through="command line"
            )  # fmt: skip
        except InvalidOperation:
            raise CommandError(f"{options['quantity']} is no number.") from None
        except (PortalError, RedisError) as error:
            raise CommandError(str(error)) from error
        if not done.rows:
            self.stdout.write(f"{done.event.id} comes to {plain(done.quantity)} already")
            return
        self.stdout.write(f"{done.event.id}: {plain(done.before)} is now {plain(done.quantity)}")
        for row in done.rows:
            self.stdout.write(f"  {row}")
