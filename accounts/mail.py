"""Mails leave after commit, by a worker: nobody's request waits for a mail server.

They are rendered at once, and travel to the worker encrypted: they hold links that reset a password.
"""

import json
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from email.utils import make_msgid
from typing import Any, NamedTuple

import structlog
from django.conf import settings
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.db import transaction
from django.template import TemplateDoesNotExist
from django.template.loader import render_to_string
from kombu.exceptions import OperationalError

from accounts.tasks import send_mail
from core.crypto import encrypt

BROKER_PAUSE_SECONDS = 5
log = structlog.get_logger(__name__)


class Attachment(NamedTuple):
    """A file that goes with a mail; some hundred kilobytes at most, because it travels through the broker."""

    name: str
    content: bytes
    content_type: str


def queue_mail(
    template: str, *, to: Sequence[str], context: Mapping[str, Any], attachments: Sequence[Attachment] = ()
) -> None:
    """Render `emails/<template>-{subject.txt,body.txt,body.html}` and send it after commit; to nobody: nothing."""
    if not to:
        return
    words = {"brand_name": settings.BRAND_NAME, "portal_url": settings.PORTAL_URL, **context}
    subject = " ".join(render_to_string(f"emails/{template}-subject.txt", words).split())
    message = EmailMultiAlternatives(
        subject, render_to_string(f"emails/{template}-body.txt", words).strip(), to=list(to)
    )
    with suppress(TemplateDoesNotExist):  # a mail to the operator needs no clothes
        message.attach_alternative(render_to_string(f"emails/{template}-body.html", words), "text/html")
    for attachment in attachments:
        message.attach(*attachment)
    queue_message(message)


def queue_message(message: EmailMessage) -> None:
    """Send a finished message after commit, by a worker; by this process when the broker is away."""
    alternatives = getattr(message, "alternatives", [])
    sealed = encrypt(
        json.dumps(
            {
                "id": make_msgid(domain="farebox"),
                "from": message.from_email,
                "to": message.to,
                "subject": message.subject,
                "text": message.body,
                "html": alternatives[0][0] if alternatives else "",
                "files": [_sealed_file(*file) for file in message.attachments],
            }
        )
    )
    transaction.on_commit(lambda: _hand_over(sealed))


def _sealed_file(name: str, content: bytes, content_type: str) -> list[str]:
    return [name, b64encode(content).decode(), content_type]


class _Broker:
    """A frozen broker costs its time-out once, and not once for each mail of a sign-up."""

    asked_again_at = 0.0


def _hand_over(sealed: str) -> None:
    if time.monotonic() < _Broker.asked_again_at:
        _send_here(sealed)
        return
    try:
        send_mail.apply_async(kwargs={"sealed": sealed}, queue="default", retry=False)
    except (OperationalError, OSError) as error:
        _Broker.asked_again_at = time.monotonic() + BROKER_PAUSE_SECONDS
        log.warning("mail_not_queued", error=type(error).__name__)
        _send_here(sealed)


def _send_here(sealed: str) -> None:
    """What was done stays done when no mail can leave: the failure is logged, the act is not undone."""
    try:
        send_mail.run(sealed=sealed)
    except Exception as error:
        log.error("mail_lost", error=type(error).__name__)
