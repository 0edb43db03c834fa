from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from core.clock import now
from metering.drain import drain_all
from metering.ledger import Stored


class Command(BaseCommand):
    help = "Move usage events from Redis into the ledger now; beat does it every second."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--seconds", type=float, default=60.0, help="stop after so many seconds (60)")

    def handle(self, *args: Any, **options: Any) -> None:
        drained: Stored = drain_all(at=now(), budget_seconds=options["seconds"])
        self.stdout.write(
            f"stored {drained.stored}, seen before {drained.repeated}, dead letters {drained.dead}"
        )
