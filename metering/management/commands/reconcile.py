import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import Organization
from core.clock import now
from metering.cuts import DrainStuck
from metering.reconcile import Reconciliation, reconcile
from metering.reconcile_report import as_json, as_table


class Command(BaseCommand):
    help = "Compare counters, totals and events at one cut; exits 0 only when all are equal, 1 with each difference named."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--organization", metavar="ORG", help="only this one (org_...)")
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument("--timeout", type=float, default=30.0, help="seconds to wait for the drain (30)")

    def handle(self, *args: Any, **options: Any) -> None:
        outcome = self._reconcile(options["organization"], options["timeout"])
        if options["json"]:
            self.stdout.write(json.dumps(as_json(outcome), indent=2))
        else:
            self.stdout.write(as_table(outcome))
        if not outcome.is_equal:
            sys.exit(1)

    def _reconcile(self, public_id: str | None, timeout: float) -> Reconciliation:
        organization = None
        if public_id is not None:
            organization = Organization.objects.filter(public_id=public_id).first()
            if organization is None:
                raise CommandError(f"There is no organization {public_id}.")
        try:
            return reconcile(at=now(), organization=organization, timeout_seconds=timeout)
        except DrainStuck as error:
            raise CommandError(str(error)) from error
