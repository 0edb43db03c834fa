from typing import Any

from django.core.management.base import BaseCommand

from metering.services import sweep_reservations


class Command(BaseCommand):
    help = "Give back reservations that expired; beat does it every 15 seconds."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"returned {sweep_reservations()}")
