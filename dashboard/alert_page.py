"""What the alerts' part of the page "Alerts and caps" shows."""

from datetime import datetime

from dashboard.access import MemberRequest
from dashboard.forms.alerts import WebhookForm
from metering.alerts.notices import webhook_url
from metering.alerts.queries import alert_history, alert_standings
from metering.alerts.services import EDITORS, ensure_defaults
from metering.alerts.webhook import host_of
from metering.models import AlertSettings

SHOWN_HISTORY = 5


def alerts_context(
    request: MemberRequest, *, at: datetime, webhook_form: WebhookForm | None = None
) -> dict[str, object]:
    """Alerts with where they stand, the webhook's host, the latest history. The first look makes the default alerts."""
    organization = request.organization
    if not AlertSettings.objects.for_organization(organization).exists():
        ensure_defaults(organization, at=at)
    return {
        "alerts": alert_standings(organization, at=at, reader=request.membership),
        "history": alert_history(organization, limit=SHOWN_HISTORY),
        "webhook_host": host_of(webhook_url(organization)),
        "webhook_form": webhook_form or WebhookForm(),
        "can_edit": request.membership.role in EDITORS,
    }
