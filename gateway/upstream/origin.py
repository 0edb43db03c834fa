"""Where requests go: scheme, host and port of an address, and what its name means now."""

import asyncio
import socket
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from core.outbound import AddressInfo

NAME_SECONDS = 30.0
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SAFE_IN_TARGETS = "%/:=&?~#+!$,;'@()*[]"


@dataclass(frozen=True, slots=True)
class Origin:
    """One server; connections to it are shared by all requests."""

    scheme: str
    host: str
    port: int

    @property
    def is_secure(self) -> bool:
        return self.scheme == "https"

    @property
    def authority(self) -> bytes:
        """As a Host header names it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = _DEFAULT_PORTS[self.scheme]
        return (host if self.port == default else f"{host}:{self.port}").encode("ascii")


def split_url(url: str) -> tuple[Origin, bytes]:
    """The server and the target (path and query) of an address. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError("an upstream's address begins with http:// or https:// and names a host")
    host = parts.hostname
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    origin = Origin(parts.scheme, host, parts.port or _DEFAULT_PORTS[parts.scheme])
    _, _, rest = url.partition("://")
    _, slash, target = rest.partition("/")
    if not target.isascii() or " " in target:
        target = quote(target, safe=_SAFE_IN_TARGETS)
    return origin, (slash + target).encode("ascii") or b"/"


class Resolver:
    """Names become addresses, remembered for 30 s; many who ask at once share one question."""

    def __init__(self) -> None:
        self._known: dict[Origin, tuple[float, list[AddressInfo]]] = {}
        self._asking: dict[Origin, asyncio.Task[list[AddressInfo]]] = {}

    async def addresses(self, origin: Origin) -> list[AddressInfo]:
        """All addresses of a server, in the system's order. Raises OSError."""
        until, known = self._known.get(origin, (0.0, []))
        if asyncio.get_running_loop().time() < until:
            return known
        task = self._asking.get(origin)
        if task is None:
            task = self._asking[origin] = asyncio.create_task(self._ask(origin))
            task.add_done_callback(lambda done: self._asked(origin, done))
        return await asyncio.shield(task)

    async def _ask(self, origin: Origin) -> list[AddressInfo]:
        loop = asyncio.get_running_loop()
        found: list[AddressInfo] = [
            (int(family), int(kind), protocol, name, address)  # type: ignore[misc]  # never a Unix socket's
            for family, kind, protocol, name, address in await loop.getaddrinfo(
                origin.host, origin.port, type=socket.SOCK_STREAM
            )
        ]
        self._known[origin] = (loop.time() + NAME_SECONDS, found)
        return found

    def _asked(self, origin: Origin, task: "asyncio.Task[list[AddressInfo]]") -> None:
        self._asking.pop(origin, None)
        if not task.cancelled():
            task.exception()  # whoever waited was told; where nobody waits any more, nobody needs to know
