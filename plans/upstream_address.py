"""Which addresses may be an upstream's: written in one plain way, so that everybody who reads them means the same server.

Where a name leads is decided on connecting, on the very address of the connection (core/outbound.py); here only what can be
said of the text is said, so that staff learn of it before a call does.
"""

import ipaddress
import re
from functools import lru_cache
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError

from core.outbound import is_allowed

LONGEST = 500
# Hosts that resolvers read as numbers: 2130706433, 0x7f000001, 0177.0.0.1, 127.1.
_NUMERIC = re.compile(r"(?i)(0x[0-9a-f]*|\d+)(\.(0x[0-9a-f]*|\d+))*\.?")
_NAME = re.compile(r"(?i)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?")


@lru_cache(1024)
def shape_fault(url: str) -> str:
    """What is wrong with how this address is written, in words; '' when nothing is."""
    if (
        len(url) > LONGEST
        or not url.isascii()
        or not url.isprintable()
        or any(c in url for c in ' \\"<>^`{|}')
    ):
        return "This is not an address: plain characters only, at most 500 (of names beyond ASCII the xn-- form)."
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "This is not an address."
    if parts.scheme not in ("http", "https") or not host or not parts.netloc:
        return "Give an address that begins with http:// or https://."
    if "@" in parts.netloc:
        return "Leave name and password out of the address: the credential has a field of its own."
    if "?" in url or "#" in url:
        return "Leave out what comes after ? or #: the calls' own path and query are appended."
    if port == 0 or parts.netloc.endswith(":"):
        return "This port cannot be connected to."
    return _host_fault(host, is_literal="[" in parts.netloc)


def address_fault(url: str) -> str:
    """As `shape_fault`; also whether the address is one that this installation connects to, where it is written as a number."""
    if fault := shape_fault(url):
        return fault
    host = urlsplit(url).hostname or ""
    if _is_ip(host) and not is_allowed(host, allow_private=settings.UPSTREAM_ALLOW_PRIVATE):
        return f"{host} is not an address that Farebox connects to."
    return ""


def check_upstream_address(url: str) -> None:
    """A validator of fields. Raises ValidationError."""
    if fault := address_fault(url):
        raise ValidationError(fault)


def _host_fault(host: str, *, is_literal: bool) -> str:
    if "%" in host:
        return "Leave the zone out of the address."
    if is_literal:
        return "" if _is_ip(host) else "This is not an IPv6 address."
    if _NUMERIC.fullmatch(host):
        return "" if _is_ip(host) else "Write an IPv4 address as four decimal numbers."
    return "" if _NAME.fullmatch(host) else "This is not a host."


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
