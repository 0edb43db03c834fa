from typing import Any

from django.core.management.base import BaseCommand

from core.clock import now
from plans.default_catalogue import install_default_catalogue


class Command(BaseCommand):
    help = "Create the default meter and the four default plans where they are missing."

    def handle(self, *_: Any, **__: Any) -> None:
        for version in install_default_catalogue(at=now()):
            self.stdout.write(f"{version.plan.name}: version {version.number} ({version.state})")
