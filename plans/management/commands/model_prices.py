"""`manage.py model_prices diff|apply`: prices of language models as their providers list them."""

import sys
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.clock import now
from plans.provider_prices import apply_price_changes, price_changes, unlisted

DIFFERS = 2


class Command(BaseCommand):
    help = (
        "Prices of language models as their providers list them: show what differs from ours (exit code 2), or write it as new "
        "rows that hold from now on. Rows of your own are left alone."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("act", choices=["diff", "apply"])
        parser.add_argument("--provider", nargs="+", default=[], help="openai, anthropic; all without it")
        parser.add_argument(
            "--model", nargs="+", default=[], help="also ones not sold yet; all sold ones without it"
        )
        parser.add_argument("--markup", help="0.25 is 25 %% on top; each model keeps its own without it")

    def handle(
        self, *_: Any, act: str, provider: list[str], model: list[str], markup: str | None, **__: Any
    ) -> None:
        if missing := unlisted(providers=provider, names=model):
            raise CommandError(f"genai-prices does not list {', '.join(missing)}. Nothing was written.")
        changes = price_changes(providers=provider, names=model, markup=_decimal(markup), at=now())
        for change in changes:
            self.stdout.write(str(change))
        if not changes:
            self.stdout.write("Nothing differs.")
        elif act == "apply":
            self.stdout.write(f"{apply_price_changes(changes)} rows written.")
        else:
            sys.exit(DIFFERS)


def _decimal(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise CommandError(f"{text} is not a number.") from error
    if not 0 <= value < 1000:
        raise CommandError("A markup is 0 or more: 0.25 is 25 %.")
    return value
