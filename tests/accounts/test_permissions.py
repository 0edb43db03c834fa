"""Who may do what with people: the table of DESIGN's roles."""

from typing import Any

import pytest

from accounts.models import Role
from accounts.permissions import can_manage_team, can_own, check_can_deal_with_role, check_can_own, find_role
from core.errors import Forbidden
from tests.cast import create_cast
from tests.factories import create_membership

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("role", "manages", "owns"),
    [
        (Role.OWNER, True, True),
        (Role.ADMIN, True, False),
        (Role.DEVELOPER, False, False),
        (Role.BILLING, False, False),
    ],
)
def test_table_of_roles(role: str, manages: bool, owns: bool, usage_redis: Any) -> None:
    organization = create_cast().northwind
    user = create_membership(organization=organization, role=role).user
    assert can_manage_team(user, organization) is manages
    assert can_own(user, organization) is owns


def test_owner_of_another_organization_may_nothing(usage_redis: Any) -> None:
    cast = create_cast()
    assert find_role(cast.charlie, cast.northwind) is None
    assert not can_manage_team(cast.charlie, cast.northwind)
    with pytest.raises(Forbidden):
        check_can_own(cast.charlie, cast.northwind)


def test_system_may_everything(usage_redis: Any) -> None:
    organization = create_cast().northwind
    check_can_deal_with_role(None, organization, Role.OWNER)
    assert can_own(None, organization)
