"""Owner keys at the JSON API: `Authorization: Bearer` or `X-Admin-Key`."""

from dataclasses import dataclass
from hmac import compare_digest

from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from keys.hashing import is_customer_key
from keys.services import find_owner_key


@dataclass(frozen=True, slots=True)
class Owner:
    """One of the owner's own services."""

    name: str
    is_authenticated: bool = True


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
        return Owner(found.name), None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="farebox"'


def presented_key(request: Request, *, header: str) -> str:
    """The key of a request: from `Authorization: Bearer` first, then from the header named; '' when there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return str(request.headers.get(header, "")).strip()
