"""Mails leave after commit, sealed, once, and never take an act down with them."""

import json
import smtplib
import time
from typing import Any
from unittest.mock import patch

import pytest
from django.core import mail
from django.db import transaction
from django.template import TemplateDoesNotExist
from kombu.exceptions import OperationalError

from accounts.mail import queue_mail
from accounts.tasks import send_mail
from config.celery import app
from core.crypto import decrypt, encrypt

WORDS = {"organization": {"name": "Fabrikam <b>"}, "plan_name": "Starter", "trial_days": 14}


@pytest.fixture(autouse=True)
def _broker_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.mail._Broker.asked_again_at", 0.0)


def queue(to: list[str]) -> None:
    queue_mail("welcome", to=to, context=WORDS)


@pytest.mark.django_db(transaction=True)
def test_mail_has_a_text_and_a_page(usage_redis: Any, settings: Any) -> None:
    settings.BRAND_NAME = "Contoso API"
    queue(["dora@example.com"])
    message = mail.outbox[0]
    assert message.to == ["dora@example.com"]
    assert message.subject == "Welcome to Contoso API: your first call"
    assert "Fabrikam <b> is set up on Starter, free for 14 days" in message.body
    assert "Fabrikam &lt;b&gt;" in message.alternatives[0][0]  # type: ignore[attr-defined]
    assert f"{settings.PORTAL_URL}/quick-start/" in message.body


@pytest.mark.django_db(transaction=True)
def test_mail_without_a_page_is_plain(usage_redis: Any) -> None:
    with patch("accounts.mail.render_to_string", side_effect=_only_text):
        queue(["dora@example.com"])
    assert not mail.outbox[0].alternatives  # type: ignore[attr-defined]


def _only_text(template: str, *_: object) -> str:
    if template.endswith(".html"):
        raise TemplateDoesNotExist(template)
    return "Hello"


@pytest.mark.django_db(transaction=True)
def test_nothing_is_sent_when_the_act_is_undone(usage_redis: Any) -> None:
    with transaction.atomic():
        queue(["dora@example.com"])
        transaction.set_rollback(True)
    assert not mail.outbox


@pytest.mark.django_db(transaction=True)
def test_nothing_is_queued_for_nobody() -> None:
    with patch.object(send_mail, "apply_async") as queued:
        queue([])
    assert not queued.called


@pytest.mark.django_db(transaction=True)
def test_what_passes_through_the_broker_is_unreadable() -> None:
    with patch.object(send_mail, "apply_async") as queued:
        queue(["dora@example.com"])
    sealed = queued.call_args.kwargs["kwargs"]["sealed"]
    assert "dora" not in sealed
    assert json.loads(decrypt(sealed))["to"] == ["dora@example.com"]
    assert queued.call_args.kwargs["queue"] == "default"


@pytest.mark.django_db(transaction=True)
def test_broker_that_is_away_is_logged_and_the_mail_sent_at_once(usage_redis: Any, caplog: Any) -> None:
    with patch.object(send_mail, "apply_async", side_effect=ConnectionRefusedError):
        queue(["dora@example.com"])
    assert len(mail.outbox) == 1
    assert "mail_not_queued" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_broker_that_is_away_is_asked_once_for_several_mails(usage_redis: Any) -> None:
    with patch.object(send_mail, "apply_async", side_effect=ConnectionRefusedError) as asked:
        for _ in range(3):
            queue(["dora@example.com"])
    assert (len(mail.outbox), asked.call_count) == (3, 1)


@pytest.mark.django_db(transaction=True)
def test_dead_broker_is_noticed_at_once(usage_redis: Any) -> None:
    app.conf.task_always_eager = False  # the fixture of this folder had set it
    with app.connection_for_write("redis://127.0.0.1:1/0") as dead:
        started = time.monotonic()
        with pytest.raises(OperationalError):
            send_mail.apply_async(kwargs={"sealed": ""}, connection=dead, retry=False)
    assert time.monotonic() - started < 1


@pytest.mark.django_db(transaction=True)
def test_mail_that_cannot_leave_is_logged_and_nothing_raised(usage_redis: Any, caplog: Any) -> None:
    with (
        patch.object(send_mail, "apply_async", side_effect=ConnectionRefusedError),
        patch("accounts.tasks.EmailMultiAlternatives.send", side_effect=smtplib.SMTPServerDisconnected),
    ):
        queue(["dora@example.com"])
    assert "mail_lost" in caplog.text
    assert "dora" not in caplog.text


def test_message_delivered_twice_is_sent_once(usage_redis: Any) -> None:
    letter = {
        "id": "<1@farebox>",
        "from": "a@x.example",
        "to": ["b@x.example"],
        "subject": "s",
        "text": "t",
        "html": "",
    }
    for _ in range(2):
        send_mail(sealed=encrypt(json.dumps(letter)))
    assert len(mail.outbox) == 1
    assert mail.outbox[0].extra_headers["Message-ID"] == "<1@farebox>"
