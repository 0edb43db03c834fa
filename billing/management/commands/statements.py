import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.models import Statement
from billing.recompute import recompute, standing_statements
from billing.statements import finalise_due
from billing.wording import statement_as_text
from core.clock import now


class Command(BaseCommand):
    help = (
        "finalise: make the statements that are due. recompute: rate all (or one) again from the ledger and compare; exits 0"
        " only when every one is equal. show: print one."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("act", choices=["finalise", "recompute", "show"])
        parser.add_argument(
            "statement", nargs="?", default="", help="number (ACME-0007) or public id (stm_...)"
        )

    def handle(self, *args: Any, act: str, statement: str, **options: Any) -> None:
        if act == "finalise":
            self.stdout.write(f"{finalise_due(at=now())} statements")
        elif act == "recompute":
            self._recompute(statement)
        else:
            self._show(statement)

    def _recompute(self, number: str) -> None:
        count, unequal = 0, 0
        for statement in standing_statements(number=number):
            count += 1
            discrepancies = recompute(statement)
            unequal += bool(discrepancies)
            for discrepancy in discrepancies:
                self.stdout.write(str(discrepancy))
        if number and not count:
            raise CommandError(f"There is no standing statement {number}.")
        self.stdout.write(f"{count} statements recomputed, {count - unequal} equal, {unequal} differ")
        if unequal:
            sys.exit(1)

    def _show(self, number: str) -> None:
        rows = Statement.objects.filter(number=number) | Statement.objects.filter(public_id=number)
        statement = rows.select_related("organization").first()
        if statement is None:
            raise CommandError(f"There is no statement {number}.")
        self.stdout.write(statement_as_text(statement))
