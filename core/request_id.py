"""Request ids: ours, always; a client's own is never trusted to be unique, so it is not taken over."""

from contextvars import ContextVar

from core.ids import random_text

current_request_id: ContextVar[str] = ContextVar("current_request_id", default="")


def new_request_id() -> str:
    """`req_` + 22 base62 characters (131 bits)."""
    return "req_" + random_text(22)
