"""R21 of the figures: forty ways to write an address that leads inside, given to the two clients that connect to addresses
of others' making, the gateway's to upstreams and the one to webhooks, past all checks of forms and fields.

Listeners on this machine's loopback addresses count who comes. Names are answered by a resolver that lies, and no connection
leaves the machine: whatever is not loopback is unreachable here.
"""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any
from unittest.mock import patch

from django.test import override_settings

from core.outbound import is_allowed
from gateway.app import Gateway
from gateway.health_checks import nobody
from gateway.proxy import BodyTooLarge, ClientGone, UpstreamTimeout, UpstreamUnavailable, ask_upstream
from metering.alerts import webhook

NUMBERS = (
    "http://127.0.0.1:{port}/", "http://2130706433:{port}/", "http://0x7f000001:{port}/", "http://017700000001:{port}/",
    "http://0177.0.0.1:{port}/", "http://0x7f.0.0.1:{port}/", "http://127.1:{port}/", "http://127.0.1:{port}/",
    "http://127.0.0.1.:{port}/", "http://0:{port}/", "http://0.0.0.0:{port}/",
)  # fmt: skip
SIX = (
    "http://[::1]:{port}/", "http://[::]:{port}/", "http://[::ffff:127.0.0.1]:{port}/", "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/", "http://[64:ff9b::7f00:1]:{port}/", "http://[2002:7f00:1::]:{port}/",
    "http://[::1%25lo]:{port}/", "http://[fe80::1%25lo]:{port}/",
)  # fmt: skip
METADATA = (
    "http://169.254.169.254/latest/meta-data/", "http://[::ffff:169.254.169.254]/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/", "http://192.0.0.192/opc/v2/", "http://100.100.100.200/latest/",
)  # fmt: skip
NAMES = (
    "http://localhost:{port}/", "http://inside.test:{port}/", "http://mapped.test:{port}/", "http://second.test:{port}/",
    "http://rebinding.test:{port}/", "http://metadata.test/latest/meta-data/",
)  # fmt: skip
SPELLINGS = (
    "http://outside.test@127.0.0.1:{port}/", "http://outside.test:80\\@127.0.0.1:{port}/", "http://outside.test#@127.0.0.1:{port}/",
    "http://127\u30020\u30020\u30021:{port}/", "http://127.0.0.1:0/", "//127.0.0.1:{port}/",
)  # fmt: skip
REDIRECTS = (302, 307, 308)
FORMS = (*NUMBERS, *SIX, *METADATA, *NAMES, *SPELLINGS, *(f"redirect by {status}" for status in REDIRECTS))

OUTSIDE = "2606:4700::6810:84e5"  # public; nothing is sent there
_RESOLVED = {
    "outside.test": cycle([[OUTSIDE]]), "inside.test": cycle([["127.0.0.1", "::1"]]), "mapped.test": cycle([["::ffff:127.0.0.1"]]),
    "second.test": cycle([[OUTSIDE, "127.0.0.1"]]), "metadata.test": cycle([["169.254.169.254"]]),
    # The first answer is for whoever checks, the second for whoever connects.
    "rebinding.test": cycle([[OUTSIDE], ["127.0.0.1"]]),
}  # fmt: skip
_SECONDS = 5.0

Ask = Callable[[str], Awaitable[object]]


@dataclass
class Listeners:
    """What came to the loopback addresses, and which addresses that lead inside somebody tried to connect to."""

    port: int = 0
    redirector: int = 0
    came: int = 0
    tried: list[str] = field(default_factory=list)


async def reached(form: str, side: str) -> int:
    """How often listeners were reached, or inside addresses tried, by this form. `side`: upstream or webhook."""
    async with _listening() as listeners, _client(side) as ask:
        if form.startswith("redirect"):
            url = f"http://127.0.0.1:{listeners.redirector}/{form.split()[-1]}"
            with _private_allowed(is_allowed=True):
                await ask(url)
            return listeners.came
        with _private_allowed(is_allowed=False), _on_a_network_of_lies(listeners):
            for _ in range(2):  # what was refused once is refused again, with whatever was remembered
                await ask(form.format(port=listeners.port))
        return listeners.came + len(listeners.tried)


async def is_reached_when_allowed(side: str) -> bool:
    """Whether the listeners count at all: plain loopback, allowed."""
    async with _listening() as listeners, _client(side) as ask:
        with _private_allowed(is_allowed=True):
            await ask(f"http://127.0.0.1:{listeners.port}/")
        return listeners.came == 1


@asynccontextmanager
async def _client(side: str) -> AsyncIterator[Ask]:
    if side == "webhook":
        yield lambda url: webhook._post(url, {"text": "hello"})
        return
    gateway = Gateway()
    await gateway.start()
    try:

        async def ask(url: str) -> object:
            try:
                answer = await ask_upstream(
                    gateway.session, method="GET", url=url, headers=[("Accept", "*/*")], body=nobody(), has_body=False,
                    connect_timeout_s=_SECONDS, timeout_s=_SECONDS,
                )  # fmt: skip
            except (UpstreamUnavailable, UpstreamTimeout, ClientGone, BodyTooLarge, ValueError) as error:
                return error
            answer.close()
            return answer.status

        yield ask
    finally:
        await gateway.stop()


@contextmanager
def _private_allowed(*, is_allowed: bool) -> Iterator[None]:
    with override_settings(UPSTREAM_ALLOW_PRIVATE=is_allowed, WEBHOOK_ALLOW_PRIVATE=is_allowed):
        yield


@asynccontextmanager
async def _listening() -> AsyncIterator[Listeners]:
    listeners = Listeners()

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listeners.came += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret")
        await _close(writer)

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        status = (await reader.readline()).split(b" ")[1].strip(b"/")
        target = f"http://127.0.0.1:{listeners.port}/".encode()
        head = b"HTTP/1.1 %b Moved\r\nLocation: %b\r\nRefresh: 0; url=%b\r\n" % (status, target, target)
        writer.write(head + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        await _close(writer)

    first = await asyncio.start_server(count, "127.0.0.1", 0)
    listeners.port = first.sockets[0].getsockname()[1]
    servers = [first, await asyncio.start_server(redirect, "127.0.0.1", 0)]
    listeners.redirector = servers[1].sockets[0].getsockname()[1]
    if socket.has_ipv6:
        servers.append(await asyncio.start_server(count, "::1", listeners.port))
    try:
        yield listeners
    finally:
        for server in servers:
            server.close()
        await asyncio.sleep(0)


async def _close(writer: asyncio.StreamWriter) -> None:
    await writer.drain()
    writer.close()


@contextmanager
def _on_a_network_of_lies(listeners: Listeners) -> Iterator[None]:
    real_answer, real_connect = socket.getaddrinfo, socket.socket.connect

    def answer(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        lies = _RESOLVED.get(str(name).rstrip(".").lower())
        if lies is None:
            return real_answer(host, port, *args, **options)
        return [_info(address, int(port or 0)) for address in next(lies)]

    def connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            if not is_allowed(address[0], allow_private=False):
                listeners.tried.append(address[0])
            if address[0] not in ("127.0.0.1", "::1", "0.0.0.0", "::"):
                raise OSError(errno.ENETUNREACH, "nothing leaves this machine")
        real_connect(self, address)

    with patch.object(socket, "getaddrinfo", answer), patch.object(socket.socket, "connect", connect):
        yield


def _info(address: str, port: int) -> tuple[Any, ...]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    target = (address, port, 0, 0) if family == socket.AF_INET6 else (address, port)
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", target)
