import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.clock import now
from core.errors import PortalError
from plans.plan_file import Catalogue, read_catalogue, write_catalogue
from plans.plan_sync import apply_catalogue, catalogue_changes, export_catalogue, find_refusal

DIFFERS = 2


class Command(BaseCommand):
    help = "The catalogue as a file: export it, show what a file would change (exit code 2), apply a file."

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True)
        for act, words in (("diff", "show what the file would change"), ("apply", "carry it out")):
            one = acts.add_parser(act, help=words)
            one.add_argument("file", type=Path, nargs="?", default=Path("plans.toml"))
        acts.choices["apply"].add_argument("--yes", action="store_true", help="do not ask")
        export = acts.add_parser("export", help="write what is on sale")
        export.add_argument("file", type=Path, nargs="?", help="instead of the standard output")

    def handle(self, *_: Any, act: str, file: Path | None, yes: bool = False, **__: Any) -> None:
        try:
            if act == "export":
                self._export(file)
            elif file is not None:
                self._compare(_read(file), apply=act == "apply", yes=yes)
        except PortalError as refused:
            raise CommandError(refused.detail) from refused

    def _export(self, file: Path | None) -> None:
        text = write_catalogue(export_catalogue())
        if file is None:
            self.stdout.write(text, ending="")
        else:
            file.write_text(text, encoding="utf-8")

    def _compare(self, wanted: Catalogue, *, apply: bool, yes: bool) -> None:
        changes = catalogue_changes(wanted)
        for change in changes:
            self.stdout.write(str(change))
        if (refused := find_refusal(wanted, at=now())) is not None:
            raise CommandError(f"This file cannot be applied. {refused.detail}") from refused
        if not changes:
            self.stdout.write("Nothing differs.")
        elif not apply:
            sys.exit(DIFFERS)
        elif yes or _agreed(f"Apply {len(changes)} changes? [y/N] "):
            for version in apply_catalogue(wanted, by=None, at=now()):
                self.stdout.write(f"{version} is on sale.")
        else:
            raise CommandError("Nothing was changed.")


def _agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:  # nobody is there to answer
        raise CommandError("Nothing was changed: say --yes where nobody can be asked.") from None


def _read(file: Path) -> Catalogue:
    try:
        return read_catalogue(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}") from error
