"""The mailbox of a development installation."""

from typing import Any

import pytest
from django.core import mail
from django.core.checks import run_checks
from django.core.mail import EmailMultiAlternatives
from django.test import Client

from dashboard import mailbox
from dashboard.models import StoredMail

pytestmark = pytest.mark.django_db


@pytest.fixture
def _open(settings: Any) -> None:
    settings.MAILBOX = True
    settings.EMAIL_BACKEND = "dashboard.mailbox.MailboxBackend"


def send(subject: str = "Confirm", *, body: str = "Open https://x.example/a?b=1 <now>") -> None:
    message = EmailMultiAlternatives(subject, body, to=["dora@example.com"], bcc=["eve@example.com"])
    message.attach_alternative("<b>Open</b>", "text/html")
    message.send()


@pytest.mark.usefixtures("_open")
def test_mail_is_kept_and_its_link_can_be_followed(client: Client) -> None:
    send()
    stored = StoredMail.objects.get()
    assert stored.to == "dora@example.com, eve@example.com"
    assert stored.html == "<b>Open</b>"
    assert f'href="/mailbox/{stored.pk}/"' in client.get("/mailbox/").content.decode()
    page = client.get(f"/mailbox/{stored.pk}/").content.decode()
    assert 'href="https://x.example/a?b=1"' in page
    assert "&lt;now&gt;" in page


@pytest.mark.usefixtures("_open")
def test_oldest_mails_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "KEPT", 3)
    for number in range(5):
        send(f"Mail {number}")
    assert [stored.subject for stored in StoredMail.objects.all()] == ["Mail 4", "Mail 3", "Mail 2"]


@pytest.mark.usefixtures("_open")
def test_empty_mailbox_says_the_next_step(client: Client) -> None:
    assert "No mail yet" in client.get("/mailbox/").content.decode()


@pytest.mark.usefixtures("_open")
def test_missing_mail_is_not_found(client: Client) -> None:
    assert client.get("/mailbox/1/").status_code == 404


def test_there_is_no_mailbox_elsewhere(client: Client) -> None:
    stored = mailbox.store_mail(mail.EmailMessage("s", "t", to=["dora@example.com"]))
    assert client.get("/mailbox/").status_code == 404
    assert client.get(f"/mailbox/{stored.pk}/").status_code == 404


@pytest.mark.parametrize(("is_open", "warned"), [(True, True), (False, False)])
def test_deployment_check_warns_of_an_open_mailbox(settings: Any, is_open: bool, warned: bool) -> None:
    settings.MAILBOX = is_open
    found = {message.id for message in run_checks(include_deployment_checks=True)}
    assert ("farebox.W001" in found) is warned
