"""Identifiers: UUIDv7 for events (sortable, carry their time), random prefixed ids for what the public sees.

UUIDv7: RFC 9562, section 5.7. Sequences never leave the database: they would tell customers how many there are.
"""

import os
import secrets
from uuid import UUID

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]  # half the divisions of large numbers
NONCE_BITS = 74
NONCE_DIGITS = 19  # of its text: the first bit of a nonce is set, so that all texts have one length
_RAND_B_BITS = 62
_NONCES_AT_ONCE = 256  # the system is asked once for so many: two calls a request would be two system calls
_nonces: list[int] = []
os.register_at_fork(after_in_child=_nonces.clear)


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
    try:
        return _nonces.pop()
    except IndexError:
        _nonces.extend(_fresh_nonces())
        return new_nonce()


def _fresh_nonces() -> list[int]:
    first, size = 1 << (NONCE_BITS - 1), 10
    raw = os.urandom(size * _NONCES_AT_ONCE)
    return [
        first | int.from_bytes(raw[at : at + size]) >> (8 * size - NONCE_BITS + 1)
        for at in range(0, len(raw), size)
    ]


def event_id(occurred_at_us: int, nonce: int) -> UUID:
    """The UUIDv7 of an event: milliseconds of the admission and the worker's nonce, so that retries give the same id."""
    high, low = nonce >> _RAND_B_BITS, nonce & ((1 << _RAND_B_BITS) - 1)
    value = (occurred_at_us // 1000) << 80 | 0x7 << 76 | (high & 0xFFF) << 64 | 0b10 << 62 | low
    return UUID(int=value)


def event_time_ms(identifier: UUID) -> int:
    """Milliseconds since 1970 that a UUIDv7 carries."""
    return identifier.int >> 80
