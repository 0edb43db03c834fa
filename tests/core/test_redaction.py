"""Links that open an account stay out of the logs."""

from typing import Any

import pytest
from django.test import Client

from core.redaction import redact_links


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
