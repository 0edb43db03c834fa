"""Owner keys at the JSON API: `Authorization: Bearer` or `X-Admin-Key`."""

from dataclasses import dataclass
from hmac import compare_digest

from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from keys.hashing import is_customer_key
from keys.models import OwnerScope
from keys.services import find_owner_key


@dataclass(frozen=True, slots=True)
class Owner:
    """One of the owner's own services; `identity` names it for good."""

    name: str
    identity: str = "environment"
    scopes: frozenset[str] = frozenset(OwnerScope.values)
    is_authenticated: bool = True


class HasOwnerScope(BasePermission):
    """An owner key needs the view's `owner_scope`; others than owner keys are judged by their own rules."""

    message = (
        "This owner key does not open that. Make one with the scope by `manage.py issue_owner_key --scope`."
    )
    code = "owner_scope_missing"

    def has_permission(self, request: Request, view: APIView) -> bool:
        caller = request.user
        return not isinstance(caller, Owner) or getattr(view, "owner_scope", "") in caller.scopes


class OwnerKeyAuthentication(BaseAuthentication):
    """The key of ADMIN_API_KEY, or an owner key that was made by `manage.py issue_owner_key`. Where a view also takes
    other keys, customers' keys and requests without any are left to the next."""

    def authenticate(self, request: Request) -> tuple[Owner, None] | None:
        key = presented_key(request, header="X-Admin-Key")
        if len(request.authenticators or ()) > 1 and (not key or is_customer_key(key)):
            return None
        if not key:
            raise AuthenticationFailed(
                "Send an owner key as `Authorization: Bearer KEY`.", code="missing_key"
            )
        if settings.ADMIN_API_KEY and compare_digest(key.encode(), settings.ADMIN_API_KEY.encode()):
            return Owner("environment"), None
        found = find_owner_key(key)
        if found is None:
            raise AuthenticationFailed("This owner key is not valid.", code="invalid_key")
        return Owner(found.name, found.public_id, frozenset(found.scopes)), None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="farebox"'


def presented_key(request: Request, *, header: str) -> str:
    """The key of a request: from `Authorization: Bearer` first, then from the header named; '' when there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return str(request.headers.get(header, "")).strip()
