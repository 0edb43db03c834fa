"""Webhooks of alerts leave here, with growing pauses between tries."""

from datetime import datetime, timedelta

from django.db.models import F

from metering.alerts.notices import webhook_url
from metering.alerts.webhook import host_of, post_text
from metering.models import AlertDelivery, DeliveryState

PAUSES = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 30, 120, 360))
CLAIM = timedelta(minutes=1)  # longer than a try takes: a worker that died leaves it to the next
MOST_AT_ONCE = 500


def due_deliveries(*, at: datetime) -> list[int]:
    """Ids of webhooks that are to be tried now, the oldest first."""
    rows = AlertDelivery.objects.filter(state=DeliveryState.WAITING, next_at__lte=at).order_by("next_at")
    return list(rows.values_list("pk", flat=True)[:MOST_AT_ONCE])


def deliver(delivery_id: int, *, at: datetime) -> AlertDelivery | None:
    """Try one webhook; None where somebody else does, or nothing is due. Call it outside of transactions."""
    due = AlertDelivery.objects.filter(pk=delivery_id, state=DeliveryState.WAITING, next_at__lte=at)
    if not due.update(next_at=at + CLAIM, attempts=F("attempts") + 1):
        return None
    row = AlertDelivery.objects.select_related("organization").get(pk=delivery_id)
    url = webhook_url(row.organization)
    row.recipient = host_of(url) or row.recipient  # the address may have been replaced since the last try
    posted = post_text(url, row.text)
    if posted.ok:
        row.state, row.next_at, row.done_at = DeliveryState.SENT, None, at
    elif row.attempts > len(PAUSES):
        row.state, row.next_at, row.done_at = DeliveryState.FAILED, None, at
    else:
        row.next_at = at + PAUSES[row.attempts - 1]
    row.outcome = posted.words[:200] if url else "no webhook is set"
    row.save(update_fields=["recipient", "state", "next_at", "done_at", "outcome"])
    return row
