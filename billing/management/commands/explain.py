import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import Organization
from billing.explain import NOW, Opened, OpenedLine, draft_document, stored_document
from billing.models import Statement
from billing.wording import display_lines, plain, quantity_words
from core.clock import now
from core.errors import NotFound
from core.money import format_money, format_price
from metering.steps import Cursor


class Command(BaseCommand):
    help = (
        "Open a line of a document: DOCUMENT/N into tiers; with --tier its hours, with --hour the calls of one. Each level adds"
        " up to the one above; exits 1 where the ledger says something else than the document."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "line",
            metavar="LINE",
            help="ACME-0007/2 or stm_.../2: the second line; org_.../2: of the running period",
        )
        parser.add_argument("--tier", type=int, help="only this tier, from 1")
        parser.add_argument("--hours", action="store_true", help="the hours of the line or tier")
        parser.add_argument("--hour", help="the calls of this hour, UTC: 2026-11-21T07")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        name, _, number = options["line"].rpartition("/")
        if not name or not number.isdecimal():
            raise CommandError("Name a line as DOCUMENT/N, for example ACME-0007/2.")
        try:
            line = _document(name).line(int(number))
            rows = self._rows(line, options)
        except NotFound:
            raise CommandError(f"There is no {options['line']}.") from None
        if options["json"]:
            self.stdout.write(json.dumps({"line": _facts(line), "rows": [row for _, row in rows]}, indent=1))
        else:
            self.stdout.write("\n".join([_head(line), *[text for text, _ in rows], _foot(line)]))
        if not line.adds_up():
            self.stderr.write("The ledger says something else than this document.")
            sys.exit(1)

    def _rows(self, line: OpenedLine, options: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        tier, currency = options["tier"], line.document.currency
        if tier is not None and not 1 <= tier <= len(line.line.tiers):
            raise CommandError(f"This line has no tier {tier}; it has {len(line.line.tiers)}.")
        if options["hour"]:
            return _calls(line, _hour(options["hour"]), tier)
        if options["hours"] or tier is not None:
            return [
                _row(currency, f"{one.hour:%Y-%m-%d %H:00} UTC", one.share, hour=one.hour.isoformat(), events=one.events)
                for one in line.hours(tier)
            ]  # fmt: skip
        words = display_lines([line.line], currency=currency)[0].tiers
        return [
            _row(currency, f"{word.range} {word.price_words}", tier, tier=number)
            for number, (word, tier) in enumerate(zip(words, line.line.tiers, strict=True), 1)
        ]


def _document(name: str) -> Opened:
    organization = Organization.objects.filter(public_id=name).first()
    if organization is not None:
        return draft_document(organization, NOW, at=now())
    rows = Statement.objects.select_related("organization", "period__version__plan", "period__organization")
    found = list((rows.filter(public_id=name) | rows.filter(number=name))[:2])
    if not found:
        raise NotFound
    if len(found) > 1:
        raise CommandError(f"Several customers have a {name}: name it by its id (stm_...).")
    return stored_document(found[0])


def _hour(text: str) -> datetime:
    try:
        return datetime.strptime(text[:13], "%Y-%m-%dT%H").replace(tzinfo=UTC)
    except ValueError:
        raise CommandError("An hour is written as 2026-11-21T07, in UTC.") from None


def _calls(line: OpenedLine, hour: datetime, tier: int | None) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    after: Cursor | None = None
    while True:
        page, after = line.calls(hour, tier=tier, after=after, limit=1_000)
        for one in page:
            request = one.event.request_id if one.event else ""
            facts = {
                "at": one.at.isoformat(),
                "event": str(one.id),
                "request": request,
                "reading": plain(one.reading),
            }
            found.append(
                _row(line.document.currency, f"{one.at:%H:%M:%S.%f} {request or one.id}", one.share, **facts)
            )
        if after is None:
            return found


def _row(currency: str, text: str, part: Any, **facts: Any) -> tuple[str, dict[str, Any]]:
    words = f"  {text:<52} {plain(part.quantity):>18} {format_price(part.amount, currency):>18}"
    return words, facts | {"quantity": plain(part.quantity), "amount": plain(part.amount)}


def _facts(line: OpenedLine) -> dict[str, Any]:
    return {
        "document": line.document.name, "position": line.position, "text": line.line.text, "kind": line.line.kind,
        "quantity": plain(line.line.quantity), "exact": plain(line.exact), "rounding": plain(line.rounding),
        "amount_minor": line.line.amount_minor, "currency": line.document.currency, "model": line.model,
    }  # fmt: skip


def _head(line: OpenedLine) -> str:
    quantity = quantity_words(line.line.quantity, line.line.unit) if line.is_metered else ""
    amount = format_money(line.line.amount_minor, line.document.currency)
    return f"{line.document.name}, line {line.position}: {line.line.text}  {quantity}  {amount}"


def _foot(line: OpenedLine) -> str:
    show: Callable[[Any], str] = lambda amount: format_price(amount, line.document.currency)  # noqa: E731
    return f"  Exactly {show(line.exact)}, rounded once by {show(line.rounding)}."
