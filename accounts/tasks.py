"""Sending mails; sessions that are over."""

import json
from base64 import b64decode

from celery import shared_task
from django.core.cache import cache
from django.core.mail import EmailMultiAlternatives

from accounts.over_sessions import forget_sessions
from core.clock import now
from core.crypto import decrypt

SENT_SECONDS = 24 * 3600


@shared_task(
    name="accounts.send_mail",
    autoretry_for=(OSError,),  # smtplib's errors among them
    retry_backoff=15,
    retry_backoff_max=600,
    max_retries=8,
)
def send_mail(*, sealed: str) -> None:
    """Send one message (accounts/mail.py). Delivered twice, it is sent once as long as the cache remembers it."""
    mail = json.loads(decrypt(sealed))
    if cache.get(mail["id"]):
        return
    message = EmailMultiAlternatives(
        mail["subject"], mail["text"], mail["from"], mail["to"], headers={"Message-ID": mail["id"]}
    )
    if mail["html"]:
        message.attach_alternative(mail["html"], "text/html")
    for name, content, content_type in mail.get("files", ()):
        message.attach(name, b64decode(content), content_type)
    message.send()
    cache.set(mail["id"], 1, SENT_SECONDS)


@shared_task(name="accounts.forget_sessions")
def forget_over_sessions() -> None:
    """Sessions of staff at the JSON API, after their time."""
    forget_sessions(at=now())
