"""One cast for all tests: Alice owns Northwind Maps, Bob is its developer, Charlie a stranger with his own company."""

from dataclasses import dataclass

from accounts.models import Organization, Role, User
from tests.factories import create_membership, create_organization, create_user


@dataclass(frozen=True, slots=True)
class Cast:
    alice: User
    bob: User
    charlie: User
    northwind: Organization
    contoso: Organization


def create_cast() -> Cast:
    alice = create_user("alice@northwind.example", name="Alice Berg")
    bob = create_user("bob@northwind.example", name="Bob Lind")
    charlie = create_user("charlie@contoso.example", name="Charlie Roth")
    northwind = create_organization("Northwind Maps", owner=alice, plan="starter")
    contoso = create_organization("Contoso Parcel", owner=charlie, plan="free", shard=3)
    create_membership(organization=northwind, user=bob, role=Role.DEVELOPER)
    return Cast(alice, bob, charlie, northwind, contoso)
