"""Where the gateway may connect to: checked on the very address of the connection, after name resolution.

A check of names or of what a resolver says is bypassed by literals and by a second answer; the address that a socket is
made for is the one it connects to. Link-local addresses (clouds serve credentials there) are never an upstream.
"""

import ipaddress
import socket
from collections.abc import Callable

from django.conf import settings

AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]
# What Python's is_global takes for public although it leads inside: NAT64 and 6to4 carry an IPv4 address.
_TRANSLATED = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("2002::/16"))


class ForbiddenAddress(OSError):
    """An upstream's address that must not be connected to."""


def is_allowed(address: str, *, allow_private: bool) -> bool:
    """Whether an upstream may be at this IP address. `allow_private`: in the owner's own network or on this machine."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and any(ip in network for network in _TRANSLATED):
        return False
    return allow_private or ip.is_global


def guarded_socket(
    make: Callable[..., socket.socket] = socket.socket,
) -> Callable[[AddressInfo], socket.socket]:
    """A socket factory for aiohttp's connector. Its sockets raise ForbiddenAddress instead of being made."""

    def factory(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, target = info
        if not is_allowed(target[0], allow_private=settings.UPSTREAM_ALLOW_PRIVATE):
            raise ForbiddenAddress(f"{target[0]} is not an address for an upstream")
        return make(family, kind, protocol)

    return factory
