from typing import Any

import pytest
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from core.clock import now
from keys.authentication import OwnerKeyAuthentication, presented_key
from keys.services import issue_owner_key, revoke_owner_key


def request(**headers: str) -> Request:
    return Request(
        APIRequestFactory().get("/", headers={name.replace("_", "-"): v for name, v in headers.items()})
    )


def code_of(**headers: str) -> Any:
    with pytest.raises(AuthenticationFailed) as refused:
        OwnerKeyAuthentication().authenticate(request(**headers))
    return refused.value.get_codes()


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({}, ""),
        ({"Authorization": "Bearer abc"}, "abc"),
        ({"Authorization": "bEARER   abc "}, "abc"),
        ({"Authorization": "Bearer"}, ""),
        ({"Authorization": "abc"}, ""),
        ({"X_API_Key": " abc "}, "abc"),
        ({"Authorization": "Basic abc", "X_API_Key": "def"}, "def"),
        ({"Authorization": "Bearer abc", "X_API_Key": "def"}, "abc"),
    ],
)
def test_a_key_is_read_from_bearer_first_then_from_its_own_header(headers: dict[str, str], key: str) -> None:
    assert presented_key(request(**headers), header="X-API-Key") == key


@pytest.mark.django_db
def test_the_key_of_the_environment_opens(settings: Any) -> None:
    settings.ADMIN_API_KEY = "the-environment-says-so"
    for headers in (
        {"Authorization": "Bearer the-environment-says-so"},
        {"X_Admin_Key": "the-environment-says-so"},
    ):
        owner, _ = OwnerKeyAuthentication().authenticate(request(**headers))
        assert (owner.name, owner.is_authenticated) == ("environment", True)
    settings.ADMIN_API_KEY = ""
    assert code_of(Authorization="Bearer the-environment-says-so") == "invalid_key"


@pytest.mark.django_db
def test_an_owner_key_opens_until_it_is_revoked() -> None:
    key, clear = issue_owner_key(name="crm", at=now())
    owner, _ = OwnerKeyAuthentication().authenticate(request(X_Admin_Key=clear))
    assert owner.name == "crm"
    revoke_owner_key(key=key, at=now())
    assert code_of(X_Admin_Key=clear) == "invalid_key"


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["x", "fb_owner_", "é", "a" * 5_000, "\0"])
def test_what_is_no_key_is_refused(key: str) -> None:
    assert code_of(X_Admin_Key=key) == "invalid_key"
    assert code_of() == "missing_key"
