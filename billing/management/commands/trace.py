import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.trace import Trace, find_calls, trace
from billing.wording import plain, quantity_words
from core.clock import now
from core.money import format_price


class Command(BaseCommand):
    help = "From a call up: its hour, the tier it fell into, the line and the document that bill it, and what it cost."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("call", metavar="REQUEST_ID|EVENT_ID", help="req_... or the event's id")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, call: str, **options: Any) -> None:
        events = find_calls(call)
        if not events:
            raise CommandError(f"The ledger has no call {call}.")
        found = [trace(event, at=now()) for event in events]
        if options["json"]:
            self.stdout.write(json.dumps([trace_facts(one) for one in found], indent=1))
        else:
            self.stdout.write("\n\n".join(map(_text, found)))


def trace_facts(found: Trace) -> dict[str, Any]:
    """A trace for programs."""
    line = found.line
    return {
        "event": str(found.event.id), "request": found.event.request_id, "organization": found.organization.public_id,
        "at": found.event.occurred_at.isoformat(), "mode": found.event.mode, "reason": found.event.reason,
        "meter": found.meter.slug if found.meter else "", "quantity": plain(found.event.quantity),
        "hour": found.hour.isoformat(), "corrections": [str(one.id) for one in found.corrections],
        "tiers": [
            {"tier": one.number, "quantity": plain(one.share.quantity), "amount": plain(one.share.amount)}
            for one in found.tiers
        ],
        "line": line.position if line else None, "text": line.line.text if line else "",
        "document": line.document.name if line else "", "reference": line.document.reference if line else "",
        "cost": plain(found.cost), "currency": line.document.currency if line else "", "note": found.note,
    }  # fmt: skip


def _text(found: Trace) -> str:
    event, line = found.event, found.line
    what = quantity_words(event.quantity, found.meter.unit if found.meter else "")
    rows = [
        f"call      {event.request_id or event.id}, {event.occurred_at:%Y-%m-%d %H:%M:%S} UTC, {what}, {event.mode}",
        f"customer  {found.organization} ({found.organization.public_id})",
        f"hour      {found.hour:%Y-%m-%d %H:00} UTC",
    ]
    rows += [f"corrected {one.id}: {plain(one.quantity)}" for one in found.corrections]
    if event.reason:
        rows.append(f"reason    {event.reason}: not charged")
    if line is None:
        return "\n".join([*rows, found.note])
    currency = line.document.currency
    rows += [
        f"tier {one.number}    {one.words.range}: {plain(one.share.quantity)} {one.words.price_words}"
        f" = {format_price(one.share.amount, currency)}"
        for one in found.tiers
    ]
    rows.append(f"line      {line.position}: {line.line.text}")
    rows.append(f"document  {line.document.name} ({line.document.reference})")
    return "\n".join([*rows, f"cost      {format_price(found.cost, currency)}"])
