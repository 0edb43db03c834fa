"""The one door of the portal's pages: who is signed in, for which organization, in which role.

A view behind `member_page` finds rows only through `request.membership.organization`.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.utils import timezone

from accounts.current import current_membership
from accounts.models import Membership, Organization, Role, User
from core.errors import Forbidden


class MemberRequest(HttpRequest):
    """A request of a signed-in member; set by `member_page`."""

    membership: Membership
    organization: Organization
    user: User


MemberView = Callable[..., HttpResponseBase]


def member_page(*roles: Role) -> Callable[[MemberView], MemberView]:
    """For members only; with `roles`, for these roles only (others: 403). Without an organization: make one first."""

    def decorate(view: MemberView) -> MemberView:
        @login_required
        @wraps(view)
        def guarded(request: MemberRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            membership = current_membership(request)
            if membership is None:
                return redirect("dashboard:organization-create")
            if roles and membership.role not in roles:
                raise Forbidden(
                    f"This needs the role {_either(roles)}. Ask an owner of {membership.organization}."
                )
            request.membership, request.organization = membership, membership.organization
            return view(request, *args, **kwargs)

        return guarded

    return decorate


def staff_page(view: MemberView) -> MemberView:
    """For the owner's staff only; for everybody else there is nothing here."""

    @login_required
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_staff:
            raise Http404
        return view(request, *args, **kwargs)

    return guarded


def reader_zone() -> ZoneInfo:
    """The zone in which this reader is shown times."""
    return ZoneInfo(timezone.get_current_timezone_name())


def _either(roles: tuple[Role, ...]) -> str:
    return " or ".join(role.label.lower() for role in roles)
