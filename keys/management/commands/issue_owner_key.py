from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from core.clock import now
from keys.services import issue_owner_key


class Command(BaseCommand):
    help = "Make a key for one of the owner's own services and print it, this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what uses it, for example crm")

    def handle(self, *_: Any, name: str, **__: Any) -> None:
        _key, clear = issue_owner_key(name=name, at=now())
        self.stdout.write(clear)
        self.stderr.write("Shown this once. It opens /api/usage/track for every organization.")
