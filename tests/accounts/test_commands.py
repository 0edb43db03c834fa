"""`manage.py create_staff`."""

from typing import Any
from unittest.mock import patch

import pytest
from allauth.account.models import EmailAddress
from django.core.management import CommandError, call_command

from accounts.models import User
from accounts.services import create_person
from tests.factories import PASSWORD

pytestmark = pytest.mark.django_db


def create(email: str, password: str = PASSWORD) -> None:
    with patch("accounts.management.commands.create_staff.getpass", return_value=password):
        call_command("create_staff", email)


def test_staff_account_signs_in_and_sees_the_admin(client: Any, capsys: Any, usage_redis: Any) -> None:
    create("staff@farebox.example")
    client.post("/accounts/login/", {"login": "staff@farebox.example", "password": PASSWORD})
    assert client.get("/admin/").status_code == 200
    assert EmailAddress.objects.get(email="staff@farebox.example").verified
    assert capsys.readouterr().out == "staff@farebox.example is staff.\n"


@pytest.mark.parametrize(
    ("email", "password", "told"),
    [
        ("nonsense", PASSWORD, "valid email"),
        ("staff@farebox.example", "short", "too short"),
        ("taken@farebox.example", PASSWORD, "account with this address"),
    ],
)
def test_bad_input_is_told_and_nothing_made(email: str, password: str, told: str) -> None:
    create_person(email="taken@farebox.example", password=PASSWORD, is_confirmed=True)
    with pytest.raises(CommandError, match=told):
        create(email, password)
    assert not User.objects.filter(is_staff=True).exists()
