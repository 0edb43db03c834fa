from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from core.clock import now
from plans.default_catalogue import install_default_catalogue
from plans.models import Plan


class Command(BaseCommand):
    help = "Create the default meter and the four default plans where they are missing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--if-empty", action="store_true", help="do nothing when there is a plan already")

    def handle(self, *_: Any, if_empty: bool, **__: Any) -> None:
        if if_empty and Plan.objects.exists():
            return
        for version in install_default_catalogue(at=now()):
            self.stdout.write(f"{version.plan.name}: version {version.number} ({version.state})")
