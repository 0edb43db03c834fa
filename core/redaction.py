"""Links that open an account stay out of the logs: whoever reads a log could use them."""

import re
from collections.abc import MutableMapping
from typing import Any

_SECRET_PARTS = re.compile(
    r"(/(?:invitations|accounts/confirm-email|accounts/password/reset/key)/)[^/\s?\"']+"
)


def redact_links(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: the secret part of such an address becomes "..."."""
    for name, value in event.items():
        if isinstance(value, str) and "/" in value:
            event[name] = _SECRET_PARTS.sub(r"\1...", value)
    return event
