"""What all connections of a server share: where usual calls are taken, which proxies are believed, lines of every answer."""

from typing import Any
from weakref import WeakKeyDictionary

from uvicorn.config import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from gateway.app import Gateway
from gateway.lane import Lane

_PROXIES = 1_000  # addresses that proxies say are remembered
_LONGEST_VIA = 256  # of those; what clients say stands before what the proxy says


class Shared:
    """What all connections of a server share."""

    def __init__(self, config: Config) -> None:
        app: Any = config.loaded_app
        self._trusted: Any = ()
        if isinstance(app, ProxyHeadersMiddleware):
            self._trusted, app = app.trusted_hosts, app.app
        self.gateway: Gateway | None = app if isinstance(app, Gateway) else None
        self._told: dict[tuple[str, str, bytes | None, bytes | None], bytes] = {}
        self._defaults: list[tuple[bytes, bytes]] | None = None
        self._default_lines = b""

    def lane(self) -> Lane | None:
        """Where usual calls are taken, while the gateway is up."""
        return self.gateway.lane if self.gateway is not None else None

    def trusts(self, client: tuple[str, int] | None) -> bool:
        """Whether this peer is a proxy of the owner's, by uvicorn's setting."""
        return client is not None and client[0] in self._trusted

    def forwarded(self, address: str, scheme: str, via: bytes | None, told_scheme: bytes | None) -> bytes:
        """What a trusted proxy says, as uvicorn reads it."""
        name = (address, scheme, via, told_scheme)
        lines = self._told.get(name)
        if lines is None:
            if told_scheme is not None and told_scheme.strip() in (b"http", b"https", b"ws", b"wss"):
                scheme = told_scheme.strip().decode("ascii")
            if via is not None:
                address = self._trusted.get_trusted_client_address(via.decode("latin-1"))[0] or address
            lines = forwarded_lines(address, scheme)
            if len(self._told) >= _PROXIES:
                self._told.clear()
            if via is None or len(via) <= _LONGEST_VIA:
                self._told[name] = lines
        return lines

    def default_lines(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """uvicorn makes a new list each second."""
        if headers is not self._defaults:
            self._defaults = headers
            self._default_lines = b"".join([b"%b: %b\r\n" % pair for pair in headers])
        return self._default_lines


_shared: WeakKeyDictionary[Config, Shared] = WeakKeyDictionary()


def shared_by(config: Config) -> Shared:
    """What connections of the server with this configuration share."""
    shared = _shared.get(config)
    if shared is None:
        shared = _shared[config] = Shared(config)
    return shared


def forwarded_lines(address: str, scheme: str) -> bytes:
    """Lines that tell the upstream where a request came from, but for the host's name."""
    lines = f"X-Forwarded-For: {address}\r\nX-Forwarded-Proto: {scheme}\r\nX-Forwarded-Host: "
    return lines.encode("latin-1")
