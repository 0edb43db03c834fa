"""Who may do what with people: `check_can_x` raises inside an act, `can_x` answers templates. None is the system."""

from accounts.models import Membership, Organization, Role, User
from core.errors import Forbidden

MANAGERS = (Role.OWNER, Role.ADMIN)
KEY_MAKERS = (Role.OWNER, Role.ADMIN, Role.DEVELOPER)
PLAN_DECIDERS = (Role.OWNER, Role.ADMIN, Role.BILLING)
MONEY_PERMISSION = "billing.change_invoice"


def find_role(user: User | None, organization: Organization) -> str | None:
    """The person's role in this organization, or None for a stranger."""
    memberships = Membership.objects.for_organization(organization).filter(user=user)
    return memberships.values_list("role", flat=True).first()


def can_manage_team(user: User | None, organization: Organization) -> bool:
    """Invite, change roles, remove: owners and admins."""
    return user is None or find_role(user, organization) in MANAGERS


def check_can_manage_team(user: User | None, organization: Organization) -> None:
    """Raises Forbidden unless `can_manage_team`."""
    if not can_manage_team(user, organization):
        raise Forbidden("Only owners and admins manage the team.")


def can_make_keys(user: User | None, organization: Organization) -> bool:
    """Issue, rotate, revoke: owners, admins, developers, and the installation's staff."""
    return user is None or user.is_staff or find_role(user, organization) in KEY_MAKERS


def check_can_make_keys(user: User | None, organization: Organization) -> None:
    """Raises Forbidden unless `can_make_keys`."""
    if not can_make_keys(user, organization):
        raise Forbidden("Owners, admins and developers manage keys.")


def can_decide_plan(user: User | None, organization: Organization) -> bool:
    """Choose, change and cancel the plan: owners, admins, billing members, and the installation's staff."""
    return user is None or user.is_staff or find_role(user, organization) in PLAN_DECIDERS


def check_can_decide_plan(user: User | None, organization: Organization) -> None:
    """Raises Forbidden unless `can_decide_plan`."""
    if not can_decide_plan(user, organization):
        raise Forbidden("Owners, admins and billing members decide about the plan.")


def can_handle_money(user: User | None) -> bool:
    """Mark paid, take back, credit, grant: the installation's staff who may change invoices."""
    return user is None or (user.is_staff and user.has_perm(MONEY_PERMISSION))


def check_can_handle_money(user: User | None) -> None:
    """Raises Forbidden unless `can_handle_money`."""
    if not can_handle_money(user):
        raise Forbidden("This needs the permission to change invoices.")


def can_suspend(user: User | None) -> bool:
    """Close and open an organization's door by hand: the installation's staff."""
    return user is None or user.is_staff


def check_can_suspend(user: User | None) -> None:
    """Raises Forbidden unless `can_suspend`."""
    if not can_suspend(user):
        raise Forbidden("Staff close and open doors.")


def can_sell(user: User | None) -> bool:
    """Change the catalogue and what single customers were granted: staff."""
    return user is None or user.is_staff


def check_can_sell(user: User | None) -> None:
    """Raises Forbidden unless `can_sell`."""
    if not can_sell(user):
        raise Forbidden("Only staff changes plans and what customers were granted.")


def can_own(user: User | None, organization: Organization) -> bool:
    """Make and unmake owners, hand the organization over: owners only."""
    return user is None or find_role(user, organization) == Role.OWNER


def check_can_own(user: User | None, organization: Organization) -> None:
    """Raises Forbidden unless `can_own`."""
    if not can_own(user, organization):
        raise Forbidden("Only an owner can do this.")


def check_can_deal_with_role(user: User | None, organization: Organization, *roles: str) -> None:
    """Raises Forbidden unless the person manages the team and, where one of the roles is owner, is an owner."""
    check_can_manage_team(user, organization)
    if Role.OWNER in roles:
        check_can_own(user, organization)
