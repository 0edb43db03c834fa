"""The owner's API (`/api/admin/*`): for signed-in staff and owner keys with the view's scope."""

from typing import ClassVar

from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.authentication import StaffTokenAuthentication
from accounts.models import User
from keys.authentication import HasOwnerScope, Owner, OwnerKeyAuthentication


class OwnerApiView(APIView):
    """Base of the owner's views."""

    authentication_classes = [StaffTokenAuthentication, OwnerKeyAuthentication]
    permission_classes = [IsAuthenticated, HasOwnerScope]
    owner_scope: ClassVar[str]


def acting_user(request: Request) -> User | None:
    """Who acts: the member of staff; None for an owner key, which acts as the system."""
    return request.user if isinstance(request.user, User) else None


def acting_through(request: Request) -> str:
    """Names the caller for good, in audit events and for kept answers: a key's id, or the account's."""
    caller = request.user
    if isinstance(caller, User):
        return f"staff:{caller.pk}"
    return f"owner:{caller.identity}" if isinstance(caller, Owner) else ""
