"""Owner keys open what their scopes say."""

from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from keys.models import OwnerKey
from keys.services import find_owner_key

pytestmark = pytest.mark.django_db


def issued(*arguments: str) -> OwnerKey:
    clear, said = StringIO(), StringIO()
    call_command("issue_owner_key", "crm", *arguments, stdout=clear, stderr=said)
    key = find_owner_key(clear.getvalue().strip())
    assert key is not None
    assert all(scope in said.getvalue() for scope in key.scopes)
    return key


def test_without_a_choice_customers_are_not_among_them() -> None:
    assert issued().scopes == ["revenue", "usage"]


def test_scopes_are_chosen() -> None:
    assert issued("--scope", "tenants").scopes == ["tenants"]
    assert issued("--scope", "usage", "--scope", "tenants", "--scope", "usage").scopes == ["tenants", "usage"]


def test_an_unknown_scope_is_refused() -> None:
    with pytest.raises(CommandError):
        issued("--scope", "everything")
    assert not OwnerKey.objects.exists()
