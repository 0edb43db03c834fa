"""The form of a key: `fb_live_` or `fb_test_`, 32 random base62 characters, 6 of CRC-32 (DESIGN.md, section 7).

The checksum lets a secret scanner tell a real key from a look-alike, and lets the door refuse nonsense without a look-up.
Owner keys have the same form with `fb_owner_`. Only SHA-256 is stored: 190 random bits need no slow hash.
"""

import hashlib
import re
import zlib

from core.ids import ALPHABET, random_text

RANDOM_LENGTH = 32
CHECKSUM_LENGTH = 6
PREFIX_SHOWN = 12
OWNER_PREFIX = "fb_owner_"
KEY_PATTERN = re.compile(r"fb_(live|test|owner)_([0-9A-Za-z]{32})([0-9A-Za-z]{6})")


def make_key(kind: str) -> str:
    """A new key of kind live, test or owner, in clear."""
    body = f"fb_{kind}_{random_text(RANDOM_LENGTH)}"
    return body + checksum(body)


def checksum(body: str) -> str:
    """CRC-32 of everything before it, as 6 base62 digits."""
    value, digits = zlib.crc32(body.encode()), ""
    for _ in range(CHECKSUM_LENGTH):
        value, digit = divmod(value, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


def is_well_formed(key: str) -> bool:
    """Whether the text has the form of a key and its checksum fits."""
    found = KEY_PATTERN.fullmatch(key)
    return found is not None and checksum(key[:-CHECKSUM_LENGTH]) == found[3]


def is_customer_key(key: str) -> bool:
    """Whether it is the form of a customer's key, not of an owner's."""
    return is_well_formed(key) and not key.startswith(OWNER_PREFIX)


def digest(key: str) -> bytes:
    """What is stored and looked up."""
    return hashlib.sha256(key.encode()).digest()
