"""Who acts in the admin."""

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from accounts.models import User


def staff(request: HttpRequest) -> User:
    """The admin lets nobody else in."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user
