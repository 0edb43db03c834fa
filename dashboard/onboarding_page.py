"""The page between sign-up and the first call: the first key, shown once, and what comes next."""

from typing import cast

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import add_never_cache_headers

from accounts.current import choose_organization
from accounts.models import Membership, Role
from accounts.queries import has_confirmed_address
from core.clock import now
from dashboard.access import MemberRequest
from dashboard.snippets import first_call_snippets
from keys.models import ApiKey, Mode
from keys.onboarding import Opened
from keys.services import IssuedKey
from metering.queries import latest_event_at

MAKERS = (Role.OWNER, Role.ADMIN, Role.DEVELOPER)
_OPENED = "_opened"


def keep_opened(request: HttpRequest, opened: Opened) -> None:
    """Carry what sign-up made to the end of this request, and no further: it holds a key in clear."""
    setattr(request, _OPENED, opened)


def find_opened(request: HttpRequest) -> Opened | None:
    return cast(Opened | None, getattr(request, _OPENED, None))


def first_page(request: HttpRequest, opened: Opened) -> HttpResponse:
    """The answer to the POST that made an organization: its test key."""
    membership = choose_organization(request, public_id=opened.organization.public_id)
    member_request = as_member(request, membership)
    return onboarding_page(member_request, issued=opened.issued, is_new=True)


def as_member(request: HttpRequest, membership: Membership) -> MemberRequest:
    """The request with what `member_page` sets, for answers that begin outside of it."""
    member_request = cast(MemberRequest, request)
    member_request.membership, member_request.organization = membership, membership.organization
    return member_request


def onboarding_page(
    request: MemberRequest, *, issued: IssuedKey | None = None, is_new: bool = False
) -> HttpResponse:
    """The page, with the key if this very request issued one; never cached."""
    usable = ApiKey.objects.for_organization(request.organization).usable(now())
    modes = set(usable.values_list("mode", flat=True))
    context = {
        "nav": "quickstart",
        "issued": issued,
        "is_new": is_new,
        "snippets": first_call_snippets(issued.clear) if issued else first_call_snippets(),
        "can_make": request.membership.role in MAKERS,
        "has_test_key": Mode.TEST in modes,
        "has_live_key": Mode.LIVE in modes,
        "has_called": latest_event_at(request.organization) is not None,
        "is_confirmed": has_confirmed_address(request.user),
    }
    response = render(request, "dashboard/onboarding.html", context)
    add_never_cache_headers(response)
    return response
