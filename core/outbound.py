"""Where this installation may connect to: checked on the very address of the connection, after name resolution.

A check of names or of what a resolver says is bypassed by literals and by a second answer; the address that a socket is
made for is the one it connects to. Link-local addresses (clouds serve credentials there) are never a target.
"""

import ipaddress
import socket
from collections.abc import Callable

AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]
# What Python's is_global takes for public although it leads inside: forms of IPv6 that carry an IPv4 address.
_TRANSLATED = tuple(
    ipaddress.ip_network(network)
    for network in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::ffff:0:0:0/96")
)
_IPV4_COMPATIBLE = ipaddress.ip_network("::/96")
# Not public either, whatever is_global says: protocol assignments (some clouds serve credentials there), old site-local.
_INSIDE = (ipaddress.ip_network("192.0.0.0/24"), ipaddress.ip_network("fec0::/10"))
_LOOPBACK = ipaddress.ip_address("::1")


class ForbiddenAddress(OSError):
    """An address that must not be connected to."""


def is_allowed(address: str, *, allow_private: bool) -> bool:
    """Whether we may connect to this IP address. `allow_private`: also in the owner's own network or on this machine."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and _carries_ipv4(ip):
        return False
    return allow_private or (ip.is_global and not any(ip in network for network in _INSIDE))


def guarded_socket(
    *, allow_private: Callable[[], bool], make: Callable[..., socket.socket] = socket.socket
) -> Callable[[AddressInfo], socket.socket]:
    """A socket factory for aiohttp's connector. Its sockets raise ForbiddenAddress instead of being made."""

    def factory(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, target = info
        if not is_allowed(target[0], allow_private=allow_private()):
            raise ForbiddenAddress(f"{target[0]} is not an address to connect to")
        return make(family, kind, protocol)

    return factory


def _carries_ipv4(ip: ipaddress.IPv6Address) -> bool:
    return any(ip in network for network in _TRANSLATED) or (ip in _IPV4_COMPATIBLE and ip != _LOOPBACK)
