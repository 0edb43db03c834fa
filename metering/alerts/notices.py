"""Who is told, and the rows that remember it."""

from datetime import datetime
from urllib.parse import urljoin

from django.conf import settings

from accounts.mail import queue_mail
from accounts.models import Membership, Organization, Role, User
from metering.alerts.webhook import host_of
from metering.alerts.words import action_of, name_of
from metering.models import (
    Alert,
    AlertDelivery,
    AlertFiring,
    AlertPreference,
    AlertSettings,
    Channel,
    DeliveryState,
    NoticeKind,
)

TOLD_BY_ROLE = (Role.OWNER, Role.ADMIN, Role.BILLING)  # developers choose it for themselves
_HEADINGS = {
    NoticeKind.FIRED: "Alert",
    NoticeKind.RECOVERED: "Back below",
    NoticeKind.TEST: "Test",
}


def members_told(alert: Alert) -> list[Membership]:
    """Members that get this alert's mails: by their own choice, else by role."""
    chosen = dict(AlertPreference.objects.filter(alert=alert).values_list("membership_id", "by_mail"))
    members = Membership.objects.for_organization(alert.organization).select_related("user").order_by("pk")
    return [m for m in members if m.user.is_active and chosen.get(m.pk, m.role in TOLD_BY_ROLE)]


def tell(
    alert: Alert, *, kind: NoticeKind, text: str, at: datetime, firing: AlertFiring | None = None
) -> list[AlertDelivery]:
    """Leave a notice for everybody who is to have it; called inside the transaction of what it tells. Mails leave after
    commit, webhooks by `delivery.deliver`."""
    made = []
    if alert.by_mail:
        made += [_mail(alert, member.user, kind, text, at, firing) for member in members_told(alert)]
    if alert.by_webhook:
        made.append(_webhook(alert, kind, text, at, firing))
    return made


def subject_of(alert: Alert, kind: NoticeKind) -> str:
    return f"{_HEADINGS[kind]}: {name_of(alert)}, {alert.organization.name}"


def _mail(
    alert: Alert, user: User, kind: NoticeKind, text: str, at: datetime, firing: AlertFiring | None
) -> AlertDelivery:
    words = {
        "organization": alert.organization,
        "subject": subject_of(alert, kind),
        "heading": f"{_HEADINGS[kind]}: {name_of(alert)}",
        "text": text,
        "acts": action_of(alert),
        "is_test": kind == NoticeKind.TEST,
    }
    queue_mail("alert", to=[user.email], context=words)
    return AlertDelivery.objects.create(
        organization=alert.organization, alert=alert, firing=firing, kind=kind, channel=Channel.MAIL,
        recipient=user.email, text=text, state=DeliveryState.SENT, attempts=1, outcome="mail queued",
        created_at=at, done_at=at,
    )  # fmt: skip


def _webhook(
    alert: Alert, kind: NoticeKind, text: str, at: datetime, firing: AlertFiring | None
) -> AlertDelivery:
    url = webhook_url(alert.organization)
    return AlertDelivery.objects.create(
        organization=alert.organization, alert=alert, firing=firing, kind=kind, channel=Channel.WEBHOOK,
        recipient=host_of(url) or "no webhook", text=webhook_text(alert, text), created_at=at,
        state=DeliveryState.WAITING if url else DeliveryState.FAILED,
        outcome="" if url else "no webhook is set", next_at=at if url else None, done_at=None if url else at,
    )  # fmt: skip


def webhook_text(alert: Alert, text: str) -> str:
    """One line with the organization's name and where to look."""
    return f"{alert.organization.name}: {text} {urljoin(settings.PORTAL_URL, '/alerts/')}"[:600]


def webhook_url(organization: Organization) -> str:
    found = AlertSettings.objects.for_organization(organization).first()
    return found.webhook_url if found else ""
