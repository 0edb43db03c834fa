"""Acts of staff sessions at the JSON API: sign in, refresh, sign out, and whose token it is."""

from dataclasses import dataclass, field
from datetime import datetime

import structlog
from allauth.account.adapter import get_adapter
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare

from accounts.models import StaffSession, User
from accounts.second_factor import accepts_code, has_second_factor
from accounts.services import record_audit
from accounts.tokens import ACCESS, REFRESH, BadToken, Claims, read_token, sign_token
from core.errors import PortalError

log = structlog.get_logger(__name__)


class WrongCredentials(PortalError):
    code, status, title = "wrong_credentials", 401, "Address, password or code are not right"


class CodeNeeded(PortalError):
    code, status, title = "code_needed", 401, "This account asks for a code of its authenticator app as well"


class TooManySignIns(PortalError):
    code, status, title = "too_many_sign_ins", 429, "Too many failed sign-ins. Wait some minutes"
    extra_headers = (("Retry-After", "60"),)


class SessionOver(PortalError):
    code, status, title = (
        "invalid_token",
        401,
        "This token is not valid, or its session is over. Sign in again",
    )


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session with its two tokens in clear (which no log or repr shows)."""

    session: StaffSession
    access: str = field(repr=False)
    refresh: str = field(repr=False)
    access_until: datetime


def sign_in_staff(
    *, request: HttpRequest, email: str, password: str, code: str, at: datetime
) -> SignedIn:  # fmt: skip
    """Start a session, limited and counted like sign-in in the browser. An unknown address, a wrong password and an account
    that is not staff are answered alike. Raises WrongCredentials, CodeNeeded, TooManySignIns."""
    user = _authenticated(request, email, password)
    if not isinstance(user, User) or not _may_sign_in(user):
        if user is not None:
            _count_failure(request, email)
        log.warning("staff_sign_in_failed")
        raise WrongCredentials
    if has_second_factor(user):
        if not code:
            raise CodeNeeded
        _count_failure(request, email)  # before the code is tried: guesses in parallel are counted, too
        if not accepts_code(user, code):
            raise WrongCredentials
    return _start(user, at)


def refresh_session(*, token: str, at: datetime) -> SignedIn:
    """New tokens for the rest of the session; the old refresh token is used up. One that comes twice was copied by
    somebody: the session ends for both. Raises SessionOver."""
    session, claims = _named(token, use=REFRESH, at=at)
    unused = StaffSession.objects.filter(pk=session.pk, serial=claims.serial, ended_at=None)
    if not unused.update(serial=F("serial") + 1):
        _end(session, "staff.refresh_reused", at)
        raise SessionOver
    session.serial = claims.serial + 1
    return _with_tokens(session, at)


def end_session(*, session: StaffSession, at: datetime) -> None:
    """Sign out: its tokens are refused from now on. Ending twice changes nothing."""
    _end(session, "staff.signed_out", at)


def session_of(token: str, *, at: datetime) -> StaffSession:
    """The session, with its user, of an access token; one query. Raises SessionOver."""
    return _named(token, use=ACCESS, at=at)[0]


def _authenticated(request: HttpRequest, email: str, password: str) -> object:
    try:
        return get_adapter(request).authenticate(request, email=email, password=password)
    except ValidationError as error:
        log.warning("staff_sign_in_limited")
        raise TooManySignIns from error


def _count_failure(request: HttpRequest, email: str) -> None:
    """allauth's limit of failed sign-ins, which a right password had been taken off again."""
    try:
        get_adapter(request).pre_authenticate(request, email=email)
    except ValidationError as error:
        raise TooManySignIns from error


def _may_sign_in(user: User) -> bool:
    return user.is_staff and user.is_active


@transaction.atomic
def _start(user: User, at: datetime) -> SignedIn:
    session = StaffSession.objects.create(
        user=user, stamp=user.get_session_auth_hash(), created_at=at, expires_at=at + settings.JWT_SESSION
    )
    _audit(session, "staff.signed_in", at)
    return _with_tokens(session, at)


def _with_tokens(session: StaffSession, at: datetime) -> SignedIn:
    until = min(at + settings.JWT_ACCESS, session.expires_at)
    name, serial = session.public_id, session.serial
    return SignedIn(
        session,
        sign_token(Claims(name, ACCESS, serial), at=at, until=until),
        sign_token(Claims(name, REFRESH, serial), at=at, until=session.expires_at),
        until,
    )


def _named(token: str, *, use: str, at: datetime) -> tuple[StaffSession, Claims]:
    """The session that a token names, if it stands: not ended, the password still the same, the person still staff."""
    try:
        claims = read_token(token, use=use, at=at)
    except BadToken as error:
        raise SessionOver from error
    session = (
        StaffSession.objects.select_related("user").filter(public_id=claims.session, ended_at=None).first()
    )
    if session is None or session.expires_at <= at or not _may_sign_in(session.user):
        raise SessionOver
    if not constant_time_compare(session.stamp, session.user.get_session_auth_hash()):
        raise SessionOver
    return session, claims


@transaction.atomic
def _end(session: StaffSession, action: str, at: datetime) -> None:
    if StaffSession.objects.filter(pk=session.pk, ended_at=None).update(ended_at=at):
        _audit(session, action, at)


def _audit(session: StaffSession, action: str, at: datetime) -> None:
    record_audit(organization=None, by=session.user, action=action, target=session.public_id, at=at)
