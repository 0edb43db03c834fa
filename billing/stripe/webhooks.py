"""`/webhooks/stripe`: the signature is checked before anything is stored, then dj-stripe takes the event.

Bad meter events are reported as thin events, which dj-stripe does not read: they are ours.
"""

import json
from contextlib import suppress
from typing import Any, cast

import stripe
import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from djstripe.models import WebhookEndpoint, WebhookEventTrigger

from billing.stripe.client import is_configured, plain, stripe_client
from billing.stripe.outbox import record_meter_error
from core.clock import now
from core.errors import NotFound, PortalError

log = structlog.get_logger(__name__)
TOLERANCE_SECONDS = 300
ENDPOINT_ID = "we_farebox"
THIN = "v2.core.event"


class ForgedEvent(PortalError):
    code, status, title = "webhook_not_signed", 400, "The signature of this event is not Stripe's"


@csrf_exempt
@require_POST
def stripe_webhook(request: HttpRequest) -> HttpResponse:
    """Answers 200 once the event is carried out, 400 to what Stripe did not sign (and stores nothing of it); on an error
    500, and Stripe sends it again."""
    if not is_configured():
        raise NotFound
    event = _verified(request)
    if event.get("object") == THIN:
        _take_thin(event)
        return HttpResponse("ok")
    # Where DEBUG is on, dj-stripe would let a caller name the secret.
    request.META.pop("HTTP_X_DJSTRIPE_WEBHOOK_SECRET", None)
    WebhookEventTrigger.from_request(request, webhook_endpoint=_endpoint())
    return HttpResponse("ok")


def _verified(request: HttpRequest) -> dict[str, Any]:
    signature = request.headers.get("Stripe-Signature", "")
    try:
        body = request.body.decode()
        _verify(body, signature)
        event = json.loads(body)
    except (ValueError, stripe.SignatureVerificationError):
        raise ForgedEvent(
            "It was not sent by this account's endpoint, or more than five minutes ago."
        ) from None
    if not isinstance(event, dict):
        raise ForgedEvent("This is no event.")
    return cast(dict[str, Any], event)


def _verify(body: str, signature: str) -> None:
    """By the secret of the endpoint, or of the destination of thin events, which has one of its own. Raises
    SignatureVerificationError."""
    secrets = [settings.STRIPE_WEBHOOK_SECRET, settings.STRIPE_THIN_WEBHOOK_SECRET]
    for secret in filter(None, secrets):
        with suppress(stripe.SignatureVerificationError):
            stripe.WebhookSignature.verify_header(body, signature, secret, TOLERANCE_SECONDS)  # type: ignore[no-untyped-call]
            return
    raise stripe.SignatureVerificationError("no secret fits", signature)  # type: ignore[no-untyped-call]


def _endpoint() -> WebhookEndpoint:
    """dj-stripe's row of our endpoint. The secret stays in the environment: it is set on the object only."""
    endpoint, _ = WebhookEndpoint.objects.get_or_create(
        id=ENDPOINT_ID,
        defaults={
            "url": f"{settings.PORTAL_URL}/webhooks/stripe",
            "status": "enabled",
            "enabled_events": ["*"],
            "livemode": settings.STRIPE_LIVE_MODE,
        },
    )
    endpoint.secret = settings.STRIPE_WEBHOOK_SECRET
    return endpoint


def _take_thin(event: dict[str, Any]) -> None:
    """A report of usage that Stripe could not count: what was sent only names it, so it is fetched."""
    if not str(event.get("type", "")).startswith("v1.billing.meter."):
        log.info("stripe_thin_event_not_ours", type=event.get("type"), id=event.get("id"))
        return
    report = plain(stripe_client().v2.core.events.retrieve(str(event["id"])))
    record_meter_error(report, at=now())
