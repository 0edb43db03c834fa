import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

import stripe
from django.core.management.base import BaseCommand, CommandError

from billing.stripe.catalogue_sync import apply_catalogue, check_catalogue
from billing.stripe.client import StripeNotConfigured
from core.clock import now


class Command(BaseCommand):
    help = (
        "diff: hold the catalogue against Stripe's products, meters and prices; exits 1 when anything differs. apply: make"
        " what is missing there, take off sale what is retired and unused; exits 1 when something could not be done."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("act", choices=["diff", "apply"])
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, act: str, **options: Any) -> None:
        try:
            problems = (
                self._diff(as_json=options["json"]) if act == "diff" else self._apply(as_json=options["json"])
            )
        except StripeNotConfigured as error:
            raise CommandError(
                f"Stripe is not configured. {error.detail} Without it, plans are collected by hand."
            ) from None
        except stripe.StripeError as error:
            raise CommandError(f"Stripe did not do it: {error.user_message or error}") from None
        if problems:
            sys.exit(1)

    def _diff(self, *, as_json: bool) -> bool:
        found = check_catalogue(at=now())
        if as_json:
            self.stdout.write(json.dumps([asdict(each) for each in found], indent=1))
        else:
            lines = [str(each) for each in found]
            self.stdout.write("\n".join(lines) or "Stripe has the catalogue as it is here.")
        return bool(found)

    def _apply(self, *, as_json: bool) -> bool:
        applied = apply_catalogue(at=now())
        if as_json:
            self.stdout.write(json.dumps(asdict(applied), indent=1))
        else:
            lines = [f"done: {text}" for text in applied.done] + [
                f"not done: {text}" for text in applied.failed
            ]
            lines += [f"not at Stripe: {text}" for text in applied.notes]
            self.stdout.write("\n".join(lines) or "Nothing to do.")
        return bool(applied.failed)
