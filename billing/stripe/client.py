"""One way to Stripe: our pinned version, short time-outs, and what its errors mean for an act.

Every write carries an idempotency key of ours, so that an act that is repeated has one effect (Stripe keeps keys for a day).
DELETE takes none there: it is idempotent by itself. tests/test_stripe_writes.py holds this.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import stripe
from django.conf import settings

from core.clock import to_micros
from core.errors import PortalError

TIMEOUT_SECONDS = 20
RETRIES = 1  # of requests without an answer; the idempotency key makes them safe


class StripeNotConfigured(PortalError):
    code, status = "payments_not_configured", 503
    title = "Card payments are not set up on this installation"


class StripeAway(PortalError):
    code, status, title = "payments_unavailable", 503, "The payment service does not answer now"


class StripeRefused(PortalError):
    code, status, title = "payment_refused", 402, "The payment service refused this"


def is_configured() -> bool:
    """Whether the operator has set a Stripe key: without one, collection is by hand."""
    return bool(settings.STRIPE_SECRET_KEY)


def stripe_client() -> stripe.StripeClient:
    """The client of this installation's account. Raises StripeNotConfigured."""
    if not is_configured():
        raise StripeNotConfigured("The operator has to set STRIPE_SECRET_KEY (docs/stripe.md).")
    return _client(settings.STRIPE_SECRET_KEY, getattr(settings, "STRIPE_API_HOST", ""))


@lru_cache(maxsize=4)
def _client(key: str, host: str) -> stripe.StripeClient:
    return stripe.StripeClient(
        key,
        stripe_version=settings.STRIPE_API_VERSION,
        base_addresses={"api": host} if host else {},
        http_client=stripe.RequestsClient(timeout=TIMEOUT_SECONDS),
        max_network_retries=RETRIES,
    )


def plain(found: stripe.StripeObject) -> dict[str, Any]:
    """Stripe's object as plain dictionaries and lists."""
    return found.to_dict()


def stripe_id_of(found: Any) -> str:
    """An id, whether the object came expanded or not."""
    return str(found["id"] if isinstance(found, Mapping) else found or "")


def moment(seconds: int | None) -> datetime | None:
    """Stripe's time (whole seconds since 1970) as ours."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def once(*parts: object) -> stripe.RequestOptions:
    """Options of a write that has one effect however often it is repeated; `parts` name the act and what it is about."""
    return {"idempotency_key": ":".join(["farebox", *map(str, parts)])}


def once_at(*parts: object, at: datetime) -> stripe.RequestOptions:
    """`once`, for an act that may truly be done again: the same change done, undone and done again is three acts. What it
    would do twice when its answer was lost, its caller finds at Stripe before it asks again."""
    return once(*parts, to_micros(at))


def is_away(error: stripe.StripeError) -> bool:
    """Whether a repetition may succeed: no answer, too many requests, or an error of Stripe's own."""
    if isinstance(error, stripe.APIConnectionError | stripe.RateLimitError):
        return True
    return error.http_status is None or error.http_status >= 500


@contextmanager
def for_people() -> Iterator[None]:
    """Acts that a person waits for raise PortalError, never Stripe's errors."""
    try:
        yield
    except stripe.StripeError as error:
        raise portal_error(error) from error


def portal_error(error: stripe.StripeError) -> PortalError:
    """What a person is told: try again, or Stripe's own words. Where the answer is missing, nobody knows what was done."""
    if is_away(error):
        return StripeAway("If nothing has changed in a minute, try again: nothing is charged twice.")
    return StripeRefused(error.user_message or "Choose another payment method, or ask us.")
