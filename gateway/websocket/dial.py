"""The upstream's end: a guarded connection of its own and our handshake as its client."""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.http11 import Response
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from gateway.proxy import UpstreamTimeout, UpstreamUnavailable
from gateway.routes import Upstream
from gateway.upstream_guard import guarded_socket
from gateway.websocket.peer import Peer, wire_log

SWITCHING = 101
_PORTS = {"http": 80, "https": 443}


class Declined(Exception):
    """The upstream answered the handshake with something else than 101."""

    def __init__(self, response: Response) -> None:
        self.response = response
        super().__init__(response.status_code)


async def dial(
    upstream: Upstream, path: str, *, headers: Sequence[tuple[str, str]], subprotocols: Sequence[str], limit: int,
    timeout_s: float,
) -> tuple[Peer, Response, str | None]:  # fmt: skip
    """The upstream's end of a WebSocket, its answer and the subprotocol it chose; `limit`: bytes of a message.

    Raises UpstreamUnavailable, UpstreamTimeout or Declined.
    """
    url = upstream.base_url + path
    ws = ClientProtocol(
        parse_uri("ws" + url.removeprefix("http")),
        subprotocols=[Subprotocol(name) for name in subprotocols] or None,
        max_size=limit,
        logger=wire_log,
    )
    peer = await _connect(ws, url, upstream.connect_timeout_s)
    try:
        request = ws.connect()
        for name, value in headers:
            request.headers[name] = value
        ws.send_request(request)
        peer.send()
        return peer, await _answer(peer, timeout_s), ws.subprotocol
    except BaseException:
        peer.transport.abort()
        raise


async def _answer(peer: Peer, timeout_s: float) -> Response:
    await asyncio.wait([peer.opened], timeout=timeout_s)
    if not peer.opened.done():
        raise UpstreamTimeout
    if peer.opened.cancelled():
        raise UpstreamUnavailable
    response = peer.opened.result()
    if response.status_code != SWITCHING:
        raise Declined(response)
    if peer.ws.handshake_exc is not None:  # 101, but not by the rules
        raise UpstreamUnavailable
    return response


async def _connect(ws: ClientProtocol, url: str, timeout_s: float) -> Peer:
    loop, parts = asyncio.get_running_loop(), urlsplit(url)
    host, is_secure = parts.hostname or "", parts.scheme == "https"
    try:
        async with asyncio.timeout(timeout_s):
            sock = await _socket(host, parts.port or _PORTS[parts.scheme])
            try:
                _, peer = await loop.create_connection(
                    lambda: Peer(ws),
                    sock=sock,
                    ssl=_tls() if is_secure else None,
                    server_hostname=host if is_secure else None,
                )
            except BaseException:
                sock.close()
                raise
    except OSError as error:  # TimeoutError and errors of TLS are some
        raise UpstreamUnavailable(is_untouched=True) from error
    return peer


async def _socket(host: str, port: int) -> socket.socket:
    """A connection to the first address that takes it and that we may connect to."""
    loop, make = asyncio.get_running_loop(), guarded_socket()
    failure: OSError = OSError("the name has no address")
    for info in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            sock = make(info)  # type: ignore[arg-type]  # of the internet families, by its host
        except OSError as error:
            failure = error
            continue
        try:
            sock.setblocking(False)
            with suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(sock, info[4])
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
