"""Secrets at rest: Fernet (AES-128-CBC + HMAC-SHA256), several keys so that they can be rotated."""

import base64
import hashlib
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, MultiFernet
from django.conf import settings
from django.db import models


@lru_cache(maxsize=4)
def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


def _keys() -> tuple[str, ...]:
    if settings.ENCRYPTION_KEYS:
        return tuple(settings.ENCRYPTION_KEYS)
    derived = hashlib.blake2b(settings.SECRET_KEY.encode(), digest_size=32, person=b"farebox-rest").digest()
    return (base64.urlsafe_b64encode(derived).decode(),)


def encrypt(clear: str) -> str:
    """The text, encrypted with the newest key; the empty text stays empty."""
    return _fernet(_keys()).encrypt(clear.encode()).decode() if clear else ""


def decrypt(token: str) -> str:
    """The clear text. Raises cryptography.fernet.InvalidToken when no configured key fits."""
    return _fernet(_keys()).decrypt(token.encode()).decode() if token else ""


def encrypt_bytes(clear: bytes) -> bytes:
    """The same for bytes."""
    return _fernet(_keys()).encrypt(clear)


def decrypt_bytes(token: bytes) -> bytes:
    """The clear bytes. Raises cryptography.fernet.InvalidToken when no configured key fits."""
    return _fernet(_keys()).decrypt(token)


class EncryptedTextField(models.TextField[str, str]):
    """Text that is encrypted in the database and clear in Python. Cannot be searched."""

    def get_prep_value(self, value: Any) -> Any:
        return value if value is None else encrypt(str(value))

    def from_db_value(self, value: str | None, *_: Any) -> str | None:
        return value if value is None else decrypt(value)
