"""Request ids: ours, always; a client's own is never trusted to be unique, so it is not taken over."""

import os
from contextvars import ContextVar

from core.ids import ALPHABET

current_request_id: ContextVar[str] = ContextVar("current_request_id", default="")


_LENGTH = 22
_AT_ONCE = 128  # the system is asked once for so many
_EVEN = (
    256 // len(ALPHABET) * len(ALPHABET)
)  # bytes from here on are thrown away: all characters stay equally likely
_CHARACTERS = (ALPHABET * (256 // len(ALPHABET) + 1))[:256].encode()
_fresh: list[str] = []
os.register_at_fork(after_in_child=_fresh.clear)


def new_request_id() -> str:
    """`req_` + 22 base62 characters (131 bits)."""
    try:
        return _fresh.pop()
    except IndexError:
        text = os.urandom(_LENGTH * _AT_ONCE).translate(_CHARACTERS, bytes(range(_EVEN, 256))).decode()
        _fresh.extend(f"req_{text[at : at + _LENGTH]}" for at in range(0, len(text) - _LENGTH + 1, _LENGTH))
        return new_request_id()
