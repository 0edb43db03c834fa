"""Identifiers: UUIDv7 for events (sortable, carry their time), random prefixed ids for what the public sees.

UUIDv7: RFC 9562, section 5.7. Sequences never leave the database: they would tell customers how many there are.
"""

import secrets
from uuid import UUID

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]  # half the divisions of large numbers
NONCE_BITS = 74
_RAND_B_BITS = 62


def public_id(prefix: str, length: int = 16) -> str:
    """`org_7Fh2...`: prefix, underscore, random base62 (16 characters are 95 bits)."""
    return f"{prefix}_{random_text(length)}"


def random_text(length: int) -> str:
    """Random base62 text from the system's source, read once for all characters: a call is named this way."""
    number, text = secrets.randbelow(len(ALPHABET) ** length), ""
    for _ in range(length // 2):
        number, pair = divmod(number, len(_PAIRS))
        text += _PAIRS[pair]
    return text + ALPHABET[number] if length % 2 else text


def new_nonce() -> int:
    """The random part of an event id: names a reservation before its time is known."""
    return secrets.randbits(NONCE_BITS)


def event_id(occurred_at_us: int, nonce: int) -> UUID:
    """The UUIDv7 of an event: milliseconds of the admission and the worker's nonce, so that retries give the same id."""
    high, low = nonce >> _RAND_B_BITS, nonce & ((1 << _RAND_B_BITS) - 1)
    value = (occurred_at_us // 1000) << 80 | 0x7 << 76 | (high & 0xFFF) << 64 | 0b10 << 62 | low
    return UUID(int=value)


def event_time_ms(identifier: UUID) -> int:
    """Milliseconds since 1970 that a UUIDv7 carries."""
    return identifier.int >> 80
