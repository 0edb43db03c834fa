"""Where usage goes: one small interface, and Stripe's Meters behind it (docs/adr/0012-usage-goes-to-stripe-meters.md)."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Protocol

import stripe

from billing.stripe.client import is_away, stripe_client

_ERROR_LENGTH = 300


@dataclass(frozen=True, slots=True)
class MeterEvent:
    """One row of the outbox as it is told. `value` counts whole units and may be negative."""

    event_name: str
    customer: str
    identifier: str
    value: int
    stamped_at: datetime


class Fate(Enum):
    """What became of an event: it counts; it counted already; it never will; it was not taken now; nobody knows; or nothing
    will be taken before the operator acts (a key that is not valid)."""

    SENT = "sent"
    KNOWN = "known"
    REFUSED = "refused"
    BUSY = "busy"
    UNKNOWN = "unknown"
    LOCKED_OUT = "locked_out"


@dataclass(frozen=True, slots=True)
class Answer:
    fate: Fate
    error: str = ""


class UsageSink(Protocol):
    """What the sender needs of a billing service. May be called from several threads."""

    def send(self, event: MeterEvent) -> Answer:
        """Tell one event; never raises for what the service or the network does."""

    def summary(self, *, meter: str, customer: str, start: datetime, end: datetime) -> int | None:
        """What the service counted of a customer in `[start, end)`, whole minutes; None when it does not answer."""


class StripeSink:
    """Stripe's meter events. An answer without an idempotency key of ours: Stripe would repeat a 500 for a day, while the
    event's identifier tells whether it was counted."""

    def send(self, event: MeterEvent) -> Answer:
        try:
            stripe_client().v1.billing.meter_events.create(
                {
                    "event_name": event.event_name,
                    "identifier": event.identifier,
                    "timestamp": int(event.stamped_at.timestamp()),
                    "payload": {"stripe_customer_id": event.customer, "value": str(event.value)},
                },
                {"max_network_retries": 0},
            )
        except stripe.StripeError as error:
            return Answer(_fate(error), _words(error))
        return Answer(Fate.SENT)

    def summary(self, *, meter: str, customer: str, start: datetime, end: datetime) -> int | None:
        try:
            found = stripe_client().v1.billing.meters.event_summaries.list(
                meter,
                {
                    "customer": customer,
                    "start_time": int(start.timestamp()),
                    "end_time": int(end.timestamp()),
                    "limit": 100,
                },
            )
            # Stripe answers with a JSON number; as text it is exact for every whole number that it can hold.
            return int(sum(Decimal(str(one.aggregated_value)) for one in found.auto_paging_iter()))
        except stripe.StripeError:
            return None


def _fate(error: stripe.StripeError) -> Fate:
    if isinstance(error, stripe.RateLimitError) or error.http_status in (409, 429):
        return Fate.BUSY
    if isinstance(error, stripe.AuthenticationError | stripe.PermissionError):
        return Fate.LOCKED_OUT
    if is_away(error):
        return Fate.UNKNOWN
    return Fate.KNOWN if _is_duplicate(error) else Fate.REFUSED


def _is_duplicate(error: stripe.StripeError) -> bool:
    """Stripe refuses an identifier that it knows with 400: then the event is there. Its code is not documented for sure."""
    words = (error.user_message or "").lower()
    code = error.code or ""
    return (
        error.http_status == 400
        and "identifier" in words + code + (getattr(error, "param", None) or "")
        and ("already" in words or "duplicate" in words + code)
    ) or code in ("duplicate_meter_event", "resource_already_exists")


def _words(error: stripe.StripeError) -> str:
    return (error.user_message or type(error).__name__)[:_ERROR_LENGTH]
