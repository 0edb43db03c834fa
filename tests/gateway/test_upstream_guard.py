import socket

import pytest
from django.conf import LazySettings

from gateway.upstream_guard import ForbiddenAddress, guarded_socket, is_allowed


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254", "0.0.0.0", "::", "224.0.0.1", "ff02::1",
        "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
    ],
)  # fmt: skip
def test_never_an_upstream(address: str) -> None:
    assert not is_allowed(address, allow_private=True)
    assert not is_allowed(address, allow_private=False)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "192.168.0.9", "::1", "fd00::5", "::ffff:10.0.0.1"]
)
def test_inside_only_where_the_owner_says_so(address: str) -> None:
    assert is_allowed(address, allow_private=True)
    assert not is_allowed(address, allow_private=False)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"])
def test_public_addresses_are_fine(address: str) -> None:
    assert is_allowed(address, allow_private=False)


def test_a_socket_to_a_forbidden_address_is_not_made(settings: LazySettings) -> None:
    make = guarded_socket()
    with pytest.raises(ForbiddenAddress):
        make((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("169.254.169.254", 80)))
    settings.UPSTREAM_ALLOW_PRIVATE = False
    with pytest.raises(ForbiddenAddress):
        make((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80)))
    settings.UPSTREAM_ALLOW_PRIVATE = True
    make((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80))).close()
