"""What every page of the portal may use."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from accounts.models import Membership, Organization
from core.clock import now
from dashboard.door_notice import find_notice

MODES = ("live", "test")


def shell(request: HttpRequest) -> dict[str, Any]:
    """Brand, the shown organization with the reader's role, the switcher's list, and an unconfirmed address."""
    membership: Membership | None = getattr(request, "membership", None)
    context: dict[str, Any] = {
        "brand_name": settings.BRAND_NAME,
        "portal_url": settings.PORTAL_URL,
        "gateway_url": settings.GATEWAY_URL,
        "mailbox_enabled": settings.MAILBOX,
    }
    if membership is None:
        return context
    return context | {
        "organization": membership.organization,
        "role": membership.role,
        "memberships": SimpleLazyObject(lambda: list(Organization.objects.of_member(membership.user))),
        "unconfirmed_email": SimpleLazyObject(lambda: _unconfirmed_email(membership)),
        "door_notice": SimpleLazyObject(lambda: find_notice(membership, at=now())),
        "mode": shown_mode(request),
    }


def shown_mode(request: HttpRequest) -> str:
    """Live unless the address says test."""
    mode = request.GET.get("mode", "live")
    return mode if mode in MODES else "live"


def _unconfirmed_email(membership: Membership) -> str:
    confirmed = membership.user.emailaddress_set.filter(verified=True).exists()
    return "" if confirmed else membership.user.email
