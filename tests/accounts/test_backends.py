"""Signing in when an address stands on several accounts: right passwords work, and nothing tells how many there are."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest
from allauth.account.models import EmailAddress
from django.contrib.auth import authenticate

from accounts.models import User
from accounts.services import create_person, create_staff

pytestmark = pytest.mark.django_db
EMAIL = "dora@example.com"


@pytest.fixture
def checks() -> Iterator[list[str]]:
    """Each time a password is hashed."""
    done: list[str] = []

    def count(kind: str, answer: object) -> object:
        done.append(kind)
        return answer

    with (
        patch.object(User, "check_password", lambda user, raw: count("check", make_ok(user, raw))),
        patch.object(User, "set_password", lambda user, raw: count("pad", None)),
    ):
        yield done


def make_ok(user: User, raw: str) -> bool:
    return user.name == raw


def person(password: str, *, is_confirmed: bool = False) -> User:
    user = create_person(email=EMAIL, password="", is_confirmed=is_confirmed, name=password)
    assert EmailAddress.objects.filter(user=user).exists()
    return user


@pytest.mark.parametrize("accounts", [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2)])
def test_wrong_password_costs_two_hashes_whoever_exists(accounts: tuple[int, int], checks: list[str]) -> None:
    confirmed, unconfirmed = accounts
    for number in range(confirmed + unconfirmed):
        person("other", is_confirmed=number < confirmed)
    checks.clear()
    assert authenticate(email=EMAIL, password="wrong") is None
    assert len(checks) == 2


def test_newest_unconfirmed_account_and_the_confirmed_one_sign_in(checks: list[str]) -> None:
    known, newest = person("known", is_confirmed=True), person("newest")
    assert authenticate(email=EMAIL, password="known") == known
    assert authenticate(email=EMAIL.upper(), password="newest") == newest


@pytest.mark.parametrize("is_known", [True, False])
def test_older_unconfirmed_account_fails_alike_whether_or_not_the_address_is_known(
    checks: list[str], is_known: bool
) -> None:
    if is_known:
        person("known", is_confirmed=True)
    for name in ("older", "newest"):
        person(name)
    assert authenticate(email=EMAIL, password="older") is None


def test_nobody_locks_staff_out_by_signing_up_with_their_address(checks: list[str]) -> None:
    staff = create_staff(email=EMAIL, password="", name="staff")
    for name in ("one", "two"):
        person(name)
    assert authenticate(email=EMAIL, password="staff") == staff


def test_account_without_an_address_row_signs_in(checks: list[str]) -> None:
    user = User.objects.create(email=EMAIL, name="made by a command")
    assert authenticate(email=EMAIL, password="made by a command") == user


def test_inactive_account_does_not_sign_in() -> None:
    user = create_person(email=EMAIL, password="long enough it is")
    User.objects.filter(pk=user.pk).update(is_active=False)
    assert authenticate(email=EMAIL, password="long enough it is") is None
