from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import Organization
from core.clock import now
from metering.cuts import DrainStuck
from metering.rebuild import rebuild_counters


class Command(BaseCommand):
    help = "Restore counters from the ledger after Redis was lost; safe under traffic, and again at any time."

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--organization", metavar="ORG", help="only this one (org_...)")
        which.add_argument("--all", action="store_true", help="every organization whose state is missing")
        parser.add_argument(
            "--reset", action="store_true",
            help="with --organization: throw its counters away first (it is refused with 503 until they are back)",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        organization = None
        if options["organization"]:
            organization = Organization.objects.filter(public_id=options["organization"]).first()
            if organization is None:
                raise CommandError(f"There is no organization {options['organization']}.")
        if options["reset"] and organization is None:
            raise CommandError("--reset needs --organization.")
        try:
            rebuilt = rebuild_counters(at=now(), organization=organization, reset=options["reset"])
        except DrainStuck as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"rebuilt {len(rebuilt)}")
        for one in rebuilt:
            self.stdout.write(f"  {one.public_id}  {one.name}")
