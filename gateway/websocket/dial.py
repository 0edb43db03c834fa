"""The upstream's end: a connection of its own and our handshake as its client."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.http11 import Response
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from gateway.pools import Upstream
from gateway.proxy import UpstreamTimeout, UpstreamUnavailable
from gateway.upstream.origin import split_url
from gateway.upstream.pool import Pool
from gateway.websocket.peer import Peer, wire_log

SWITCHING = 101


@dataclass(frozen=True, slots=True)
class Dialled:
    """What an upstream answered to the handshake; `peer` is its end where that was 101."""

    peer: Peer
    response: Response
    upstream: Upstream
    subprotocol: str | None

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names in lower case."""
        items = self.response.headers.raw_items()
        return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in items]

    @property
    def body(self) -> bytes:
        """Of another answer than 101."""
        return bytes(self.response.body or b"")

    def close(self) -> None:
        self.peer.close()


async def dial(
    pool: Pool, upstream: Upstream, path: str, *, headers: Sequence[tuple[str, str]], subprotocols: Sequence[str], limit: int,
    timeout_s: float,
) -> Dialled:  # fmt: skip
    """Open a WebSocket at an upstream; `limit`: bytes of a message. Raises UpstreamUnavailable or UpstreamTimeout."""
    url = upstream.base_url + path
    try:
        origin, _ = split_url(url)
        ws = ClientProtocol(
            parse_uri("ws" + url.removeprefix("http")),
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
            max_size=limit,
            logger=wire_log,
        )
        request = ws.connect()
        for name, value in headers:
            request.headers[name] = value
    except (
        ValueError,
        WebSocketException,
    ) as error:  # of the owner's settings, as nothing of a client's request gets here
        raise UpstreamUnavailable(is_untouched=True) from error
    peer = await pool.open_own(origin, lambda: Peer(ws), connect_s=upstream.connect_timeout_s)
    try:
        ws.send_request(request)
        peer.send()
        response = await _answer(peer, timeout_s)
    except BaseException:
        peer.close()
        raise
    return Dialled(peer, response, upstream, ws.subprotocol)


async def _answer(peer: Peer, timeout_s: float) -> Response:
    await asyncio.wait([peer.opened], timeout=timeout_s)
    if not peer.opened.done():
        raise UpstreamTimeout
    if peer.opened.cancelled():
        raise UpstreamUnavailable
    response = peer.opened.result()
    if response.status_code < 300 and peer.ws.handshake_exc is not None:  # not by the rules
        raise UpstreamUnavailable
    return response
