"""Signed tokens of staff at the JSON API (JWT, RFC 7519, HS256).

A token only names a session and what it is for; whether the session still stands is read at each use. Keys are
JWT_KEYS, newest first: the first signs, all are accepted, a token says by which it was signed (`kid`).
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

import jwt
from django.conf import settings
from jwt.types import Options

from core.clock import to_micros

ACCESS, REFRESH = "access", "refresh"
_ALGORITHM = "HS256"
_ISSUER = _AUDIENCE = "farebox"
_REQUIRED = ["iss", "aud", "sub", "use", "n", "iat", "exp"]


class BadToken(Exception):
    """It was not signed by us, is for something else, or is over."""


@dataclass(frozen=True, slots=True)
class Claims:
    """`session` is its public id, `use` access or refresh, `serial` counts the session's refreshes."""

    session: str
    use: str
    serial: int


def sign_token(claims: Claims, *, at: datetime, until: datetime) -> str:
    """The token in its compact form; times are whole seconds."""
    payload = {
        "iss": _ISSUER, "aud": _AUDIENCE, "sub": claims.session, "use": claims.use, "n": claims.serial,
        "iat": _seconds(at), "exp": _seconds(until),
    }  # fmt: skip
    kid, key = next(iter(_keys().items()))
    return jwt.encode(payload, key, algorithm=_ALGORITHM, headers={"kid": kid})


def read_token(token: str, *, use: str, at: datetime) -> Claims:
    """Raises BadToken."""
    try:
        key = _keys()[str(jwt.get_unverified_header(token).get("kid"))]
        options: Options = {
            "require": _REQUIRED,
            "verify_exp": False,
            "verify_iat": False,
        }  # we are told the time
        payload = jwt.decode(
            token, key, algorithms=[_ALGORITHM], issuer=_ISSUER, audience=_AUDIENCE, options=options
        )
        claims, until = (
            Claims(str(payload["sub"]), str(payload["use"]), int(payload["n"])),
            int(payload["exp"]),
        )
    except (jwt.InvalidTokenError, KeyError, TypeError, ValueError) as error:
        raise BadToken from error
    if claims.use != use or until <= _seconds(at):
        raise BadToken
    return claims


def looks_like_token(text: str) -> bool:
    """Whether it has the form of a JWT, which none of our keys has."""
    return text.startswith("eyJ") and text.count(".") == 2


def _keys() -> dict[str, bytes]:
    """By the name that stands in tokens, newest first."""
    secrets = settings.JWT_KEYS or [settings.SECRET_KEY]
    keys = [
        hashlib.blake2b(secret.encode(), digest_size=32, person=b"farebox-jwt").digest() for secret in secrets
    ]
    return {hashlib.blake2b(key, digest_size=8).hexdigest(): key for key in keys}


def _seconds(moment: datetime) -> int:
    return to_micros(moment) // 1_000_000
