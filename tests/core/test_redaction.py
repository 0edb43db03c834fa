"""Links that open an account stay out of the logs."""

import re
from typing import Any

import pytest
from django.core import mail
from django.test import Client

from core.clock import now
from core.redaction import redact_links
from plans.default_catalogue import install_default_catalogue
from tests.eager import tasks_at_once
from tests.factories import PASSWORD


@pytest.mark.parametrize(
    ("path", "logged"),
    [
        ("GET /invitations/Kj4-CI_u/", "GET /invitations/.../"),
        ("POST /accounts/confirm-email/MjQ:1xU:-Ry6/", "POST /accounts/confirm-email/.../"),
        ("GET /accounts/password/reset/key/1-cx2/", "GET /accounts/password/reset/key/.../"),
        ("Not Found: /invitations/abc/", "Not Found: /invitations/.../"),
        ("GET /team/invitations/", "GET /team/invitations/"),
        ("GET /keys/", "GET /keys/"),
    ],
)
def test_secret_part_of_a_link_is_left_out(path: str, logged: str) -> None:
    assert redact_links(None, "info", {"request": path, "status": 200}) == {"request": logged, "status": 200}


@pytest.mark.django_db
def test_log_of_a_request_has_no_secret(client: Client, caplog: Any) -> None:
    caplog.set_level("INFO")
    client.get("/invitations/very-secret-token/")
    assert "/invitations/.../" in caplog.text
    assert "very-secret-token" not in caplog.text


@pytest.mark.django_db(transaction=True)
def test_log_of_a_sign_up_has_no_token(client: Client, caplog: Any, usage_redis: Any) -> None:
    install_default_catalogue(at=now())
    form = {
        "email": "dana@fabrikam.example",
        "password1": PASSWORD,
        "organization_name": "Fabrikam",
        "plan": "free",
    }
    caplog.set_level("DEBUG")
    with tasks_at_once():
        client.post("/accounts/signup/", form)
    sent = " ".join(str(message.body) for message in mail.outbox)
    (token,) = set(re.findall(r"/accounts/confirm-email/([^/\s]+)/", sent))
    client.get(f"/accounts/confirm-email/{token}/")
    client.post(f"/accounts/confirm-email/{token}/")
    client.get(f"/accounts/confirm-email/{token}/nowhere/")
    assert "/accounts/confirm-email/.../" in caplog.text
    assert token not in caplog.text
