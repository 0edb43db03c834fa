"""The secret in an invitation's link: stands in the mail; stored is its hash."""

import hashlib
import secrets


def make_token() -> str:
    """256 random bits, fit for an address."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """What is stored and looked up; so many random bits need no slow hash."""
    return hashlib.sha256(token.encode()).digest()
