"""Facts that travel through somebody else's gateway and come back: readable by it, made by nobody but us."""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import lru_cache
from typing import Any

import orjson
from django.conf import settings

_SIGNATURE_BYTES = 18  # a whole number of letters: every letter counts


def seal(purpose: str, facts: dict[str, Any]) -> str:
    """The facts as one word of header-safe characters."""
    body = orjson.dumps(facts)
    return _encode(body) + "." + _encode(_sign(purpose, body))


def unseal(purpose: str, token: str) -> dict[str, Any] | None:
    """The facts, or None where the word was not sealed by this installation for this purpose."""
    body_text, _, signature_text = token.partition(".")
    try:
        body, signature = _decode(body_text), _decode(signature_text)
    except ValueError:
        return None
    if not hmac.compare_digest(signature, _sign(purpose, body)):
        return None
    facts: dict[str, Any] = orjson.loads(body)
    return facts


def _sign(purpose: str, body: bytes) -> bytes:
    return hmac.digest(_key(settings.SECRET_KEY, purpose), body, "sha256")[:_SIGNATURE_BYTES]


@lru_cache(maxsize=8)
def _key(secret: str, purpose: str) -> bytes:
    return hashlib.sha256(f"farebox.{purpose}:{secret}".encode()).digest()


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
