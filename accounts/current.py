"""Which organization a signed-in person is looking at: the session remembers, the memberships decide."""

from typing import cast

from django.http import HttpRequest

from accounts.models import Membership, User
from core.tenancy import TenantQuerySet

SESSION_KEY = "organization"
_CACHE = "_current_membership"


def current_membership(request: HttpRequest) -> Membership | None:
    """The membership in the organization chosen last, else in the first one joined; None for strangers. One query."""
    if not request.user.is_authenticated:
        return None
    if not hasattr(request, _CACHE):
        setattr(request, _CACHE, _find(request))
    return cast(Membership | None, getattr(request, _CACHE))


def choose_organization(request: HttpRequest, *, public_id: str) -> Membership:
    """Look at another of the person's own organizations from now on. Raises NotFound for any other id."""
    membership = _own(request).get_or_404(organization__public_id=public_id)
    request.session[SESSION_KEY] = public_id
    setattr(request, _CACHE, membership)
    return membership


def _find(request: HttpRequest) -> Membership | None:
    memberships = list(_own(request).order_by("pk"))
    chosen = request.session.get(SESSION_KEY, "")
    by_id = {membership.organization.public_id: membership for membership in memberships}
    return by_id.get(chosen) or next(iter(memberships), None)


def _own(request: HttpRequest) -> TenantQuerySet[Membership]:
    user = cast(User, request.user)
    own = Membership.objects.filter(user=user, organization__archived_at=None)
    return own.select_related("organization", "user")
