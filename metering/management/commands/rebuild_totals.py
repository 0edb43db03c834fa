from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import Organization
from metering.totals import rebuild_totals


class Command(BaseCommand):
    help = "Count the totals of the ledger again from its events; safe under traffic, which waits for it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--organization", metavar="ORG", help="only this one (org_...)")
        which.add_argument("--all", action="store_true", help="every organization, one after the other")

    def handle(self, *args: Any, **options: Any) -> None:
        organizations = Organization.objects.order_by("pk")
        if options["organization"]:
            organizations = organizations.filter(public_id=options["organization"])
            if not organizations:
                raise CommandError(f"There is no organization {options['organization']}.")
        for organization in organizations:
            self.stdout.write(f"{organization.public_id}: {rebuild_totals(organization)} events")
