"""The second step at sign-in: an authenticator app and recovery codes."""

import re
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.core.cache import cache
from django.test import Client

from accounts.models import User
from accounts.second_factor import accepts_code, has_second_factor
from accounts.services import create_staff
from tests.factories import PASSWORD

SECRET = "JBSWY3DPEHPK3PXP"
pytestmark = pytest.mark.django_db


@pytest.fixture
def staff() -> User:
    cache.clear()
    return create_staff(email="ops@farebox.example", password=PASSWORD)


def code_of(secret: str) -> str:
    return format_hotp_value(hotp_value(secret, next(iter(yield_hotp_counters_from_time()))))


def signed_in() -> Client:
    client = Client()
    client.post("/accounts/login/", {"login": "ops@farebox.example", "password": PASSWORD})
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    return client


def test_it_is_set_up_in_the_portal_and_then_asked_for(staff: User) -> None:
    client = signed_in()
    assert "Not set up" in client.get("/accounts/2fa/").content.decode()
    shown = client.get("/accounts/2fa/totp/activate/")
    assert shown.status_code == 200, shown["Location"]
    page = shown.content.decode()
    found = re.search(r"<code>([A-Z2-7]+)</code>", page)
    assert found is not None
    assert 'src="data:image/svg+xml' in page
    assert not re.search(r"<style|\sstyle=|\son\w+=", page)
    refused = client.post("/accounts/2fa/totp/activate/", {"code": "000000"})
    assert "Incorrect code" in refused.content.decode()
    answer = client.post("/accounts/2fa/totp/activate/", {"code": code_of(found[1])})
    assert answer.status_code == 302
    assert has_second_factor(staff)
    assert found[1] not in str(Authenticator.objects.values_list("data", flat=True))
    for path in ("", "recovery-codes/", "recovery-codes/generate/", "totp/deactivate/"):
        assert client.get(f"/accounts/2fa/{path}").status_code == 200, path
    codes = re.findall(
        r"^\w{8}$",
        client.get("/accounts/2fa/recovery-codes/").content.decode().replace("<pre>", "\n"),
        re.MULTILINE,
    )
    assert len(codes) == 10

    other = signed_in()
    assert other.get("/accounts/2fa/").status_code == 302  # not in yet
    assert "Your code" in other.get("/accounts/2fa/authenticate/").content.decode()
    assert other.post("/accounts/2fa/authenticate/", {"code": codes[0]}).status_code == 302
    assert other.get("/accounts/2fa/").status_code == 200


def test_a_code_is_good_once(staff: User) -> None:
    TOTP.activate(staff, SECRET)
    codes = RecoveryCodes.activate(staff).generate_codes()
    code = code_of(SECRET)
    assert [accepts_code(staff, one) for one in (code, code, codes[0], codes[0], "", "abc")] == [
        True, False, True, False, False, False,
    ]  # fmt: skip


def test_a_code_of_another_person_is_not_accepted(staff: User) -> None:
    other = create_staff(email="other@farebox.example", password=PASSWORD)
    TOTP.activate(other, SECRET)
    assert not accepts_code(staff, code_of(SECRET))


def test_the_secret_is_encrypted_at_rest(staff: User) -> None:
    TOTP.activate(staff, SECRET)
    RecoveryCodes.activate(staff)
    stored: list[Any] = list(Authenticator.objects.values_list("data", flat=True))
    assert SECRET not in str(stored)
    assert all(
        str(value).startswith("gAAAA")
        for one in stored
        for name, value in one.items()
        if name in ("secret", "seed")
    )
