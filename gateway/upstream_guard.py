"""Where the gateway may connect to (core/outbound.py): never to link-local addresses, to private ones as the owner says."""

import socket
from collections.abc import Callable

from django.conf import settings

from core import outbound
from core.outbound import AddressInfo as AddressInfo
from core.outbound import ForbiddenAddress as ForbiddenAddress
from core.outbound import is_allowed as is_allowed


def guarded_socket(
    make: Callable[..., socket.socket] = socket.socket,
) -> Callable[[AddressInfo], socket.socket]:
    """A socket factory for aiohttp's connector. Its sockets raise ForbiddenAddress instead of being made."""
    return outbound.guarded_socket(allow_private=lambda: settings.UPSTREAM_ALLOW_PRIVATE, make=make)
