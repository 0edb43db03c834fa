"""Mails of a development installation: kept in the database and shown on /mailbox/ instead of being sent.

Anybody who reaches that page reads them, links that reset passwords included: never set FAREBOX_MAILBOX on a server
that others use (`check --deploy` warns).
"""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Tags, register
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend

from core.clock import now
from dashboard.models import StoredMail

KEPT = 500


class MailboxBackend(BaseEmailBackend):
    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        for message in email_messages:
            store_mail(message)
        return len(email_messages)


def store_mail(message: EmailMessage) -> StoredMail:
    """Keep one mail and forget the oldest beyond 500."""
    alternatives = getattr(message, "alternatives", [])
    stored = StoredMail.objects.create(
        sent_at=now(),
        to=", ".join(message.recipients())[:1000],
        subject=message.subject[:300],
        text=str(message.body),
        html=alternatives[0][0] if alternatives else "",
    )
    beyond = StoredMail.objects.order_by("-pk").values_list("pk", flat=True)[KEPT : KEPT + 1]
    StoredMail.objects.filter(pk__lte=beyond[0] if beyond else 0).delete()
    return stored


@register(Tags.security, deploy=True)
def warn_of_open_mailbox(**_: Any) -> list[CheckMessage]:
    """Part of `manage.py check --deploy`."""
    if not settings.MAILBOX:
        return []
    return [
        checks.Warning("FAREBOX_MAILBOX shows all mails to everybody.", hint="Unset it.", id="farebox.W001")
    ]
