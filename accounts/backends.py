"""Signing in when an address may stand on several accounts.

Sign-up never says whether an address is known: it makes an account with an unconfirmed copy of the address instead
(allauth's ACCOUNT_PREVENT_ENUMERATION = "strict"). Such an account has to go on working with its own password, or its
second sign-in would tell what the sign-up hid; and every attempt has to cost the same time.
"""

from typing import Any

from allauth.account.auth_backends import AuthenticationBackend as AllauthBackend
from allauth.account.models import EmailAddress
from django.db.models import Exists, OuterRef, Q

from accounts.models import User

# Password checks per attempt, whoever exists: the newest unconfirmed account and the known one.
CHECKS = 2


class AuthenticationBackend(AllauthBackend):
    """E-mail and password, over the accounts that carry this address."""

    def _authenticate_by_email(self, email: str, password: str) -> Any:
        candidates = _candidates(email.strip().lower())
        for user in candidates:
            if self._check_password(user, password):
                return user
        for _ in range(CHECKS - len(candidates)):
            self._mitigate_timing_attack(password)
        self._did_check_password = True
        return None


def _candidates(email: str) -> list[User]:
    """The newest unconfirmed account, then the one that confirmed the address (or is staff). Older unconfirmed ones
    are left out: to try all would let anybody slow down a sign-in, and to try some would tell whether one is known."""
    confirmed = EmailAddress.objects.filter(user=OuterRef("pk"), email=email, verified=True)
    holders = EmailAddress.objects.filter(email=email).values("user_id")
    users = User.objects.filter(Q(email=email) | Q(pk__in=holders)).order_by("-pk")
    is_known = Q(is_staff=True) | Q(Exists(confirmed))
    newest, known = users.exclude(is_known).first(), users.filter(is_known).first()
    return [user for user in (newest, known) if user is not None]
