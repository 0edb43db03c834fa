"""Codes of authenticator apps (and recovery codes), as the portal's sign-in takes them: allauth keeps the secrets."""

from typing import Any

from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP

from accounts.models import User

_KINDS: dict[str, Any] = {Authenticator.Type.TOTP: TOTP, Authenticator.Type.RECOVERY_CODES: RecoveryCodes}


def has_second_factor(user: User) -> bool:
    """Whether the account has an authenticator app."""
    return Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).exists()


def accepts_code(user: User, code: str) -> bool:
    """Whether this is the app's present code, or one of the recovery codes; each is good once."""
    for one in Authenticator.objects.filter(user=user, type__in=_KINDS):
        if _KINDS[one.type](one).validate_code(code):
            one.record_usage()
            return True
    return False
