"""Staff at the JSON API: the access token of `POST /api/auth/login`."""

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts.models import StaffSession, User
from accounts.staff_sessions import SessionOver, session_of
from accounts.tokens import looks_like_token
from core.clock import now


class StaffTokenAuthentication(BaseAuthentication):
    """`request.user` is the member of staff, `request.auth` the session. What is no token is left to the next."""

    def authenticate(self, request: Request) -> tuple[User, StaffSession] | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not looks_like_token(token):
            return None
        try:
            session = session_of(token, at=now())
        except SessionOver as error:
            raise AuthenticationFailed(error.detail, code=error.code) from error
        return session.user, session

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="farebox"'
