from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from core.clock import now
from keys.models import OwnerScope
from keys.services import issue_owner_key


class Command(BaseCommand):
    help = "Make a key for one of the owner's own services and print it, this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what uses it, for example crm")
        parser.add_argument(
            "--scope", action="append", choices=OwnerScope.values, dest="scopes",
            help="what it opens, once for each; without any: usage and revenue",
        )  # fmt: skip

    def handle(self, *_: Any, name: str, scopes: list[str] | None, **__: Any) -> None:
        key, clear = issue_owner_key(name=name, at=now(), scopes=scopes)
        self.stdout.write(clear)
        self.stderr.write(f"Shown this once. It opens, for every organization: {', '.join(key.scopes)}.")
