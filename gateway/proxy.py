"""The exchange with the upstream: the request's body in, the answer out, both streamed.

The end of an answer is held back until its event is in the stream: with a Content-Length the last byte, without a body
the head, otherwise the terminator; of event streams also the protocol's final frame (ENGINE.md, section 2).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.headers import RawHeaders, find_header
from gateway.upstream.answer import NO_BODY as NO_BODY
from gateway.upstream.answer import Answer as Answer
from gateway.upstream.asking import Asking, request_head
from gateway.upstream.errors import BodyTooLarge as BodyTooLarge
from gateway.upstream.errors import ClientGone as ClientGone
from gateway.upstream.errors import StaleConnection as StaleConnection
from gateway.upstream.errors import UpstreamCut as UpstreamCut
from gateway.upstream.errors import UpstreamTimeout as UpstreamTimeout
from gateway.upstream.errors import UpstreamUnavailable as UpstreamUnavailable
from gateway.upstream.origin import split_url
from gateway.upstream.pool import Pool

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
WhenLeft = Callable[[Callable[[], None]], None]

PIECE = 64 * 1024
WHEN_LEFT = "farebox.when_left"  # in a scope
_FINAL_FRAMES = (b"[DONE]", b"message_stop")
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})  # RFC 9110, 9.2.2


@dataclass(slots=True)
class Body:
    """The request's body as it comes, counted; after its end it watches for the client's leaving."""

    receive: Receive
    limit: int
    size: int = 0
    is_gone: bool = False
    is_begun: bool = False  # somebody has begun to read it
    content: bytes | None = None  # what is sent in its place, as often as it is asked for, once it was read
    when_left: WhenLeft | None = None  # the server's own word, where it gives one
    _ended: bool = False
    _on_leaving: list[Callable[[], object]] = field(default_factory=list)
    _is_watching: bool = False
    _watch: "asyncio.Task[None] | None" = None

    @classmethod
    def of(cls, scope: dict[str, Any], receive: Receive, limit: int) -> "Body":
        """The body of a request; its server may tell by itself when the client leaves (gateway/protocol.py)."""
        return cls(receive, limit, when_left=scope.get(WHEN_LEFT))

    async def read(self) -> bytes:
        """All of the body at once. Raises ClientGone or BodyTooLarge."""
        return b"".join([piece async for piece in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, piece by piece. Raises ClientGone or BodyTooLarge."""
        if self.content is not None:
            for start in range(0, len(self.content), PIECE):
                yield self.content[start : start + PIECE]
            return
        self.is_begun = True
        while not self._ended:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                self.is_gone = self._ended = True
                raise ClientGone
            piece = message.get("body", b"")
            self.size += len(piece)
            self._ended = not message.get("more_body", False)
            if self.size > self.limit:
                raise BodyTooLarge
            if piece:
                yield piece
        self.watch()

    def watch(self) -> None:
        """Notice from now on when the client leaves; nothing else may read the body any more."""
        if self._is_watching:
            return
        self._is_watching = self._ended = True
        if self.when_left is not None:
            self.when_left(self._left)
        else:
            self._watch = asyncio.create_task(self._wait_for_leaving())

    def on_leaving(self, act: Callable[[], object]) -> None:
        """Do this when the client leaves; at once, where it has left already."""
        if self.is_gone:
            act()
        else:
            self._on_leaving.append(act)

    def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()

    async def _wait_for_leaving(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self._left()

    def _left(self) -> None:
        self.is_gone = True
        for act in self._on_leaving:
            act()


async def ask_upstream(
    pool: Pool, *, method: str, url: str, headers: list[tuple[str, str]], body: Body, has_body: bool,
    connect_timeout_s: float, timeout_s: float, stops_with_client: bool = True,
) -> Answer:  # fmt: skip
    """Send the request and wait for the answer's head; without `stops_with_client` also when the client leaves meanwhile.

    Raises UpstreamUnavailable, UpstreamTimeout, ClientGone or BodyTooLarge.
    """
    try:
        is_chunked = has_body and all(name.lower() != "content-length" for name, _ in headers)
        origin, target = split_url(url)
        request = request_head(method, origin, target, headers, is_chunked=is_chunked)
    except (
        ValueError
    ) as error:  # of the owner's settings: nothing of a client's request gets past the server's parser
        raise UpstreamUnavailable(is_untouched=True) from error
    asking = Asking(
        pool, origin, method, request, body if has_body else None, timeout_s, is_chunked=is_chunked
    )
    if stops_with_client:
        body.on_leaving(asking.leave)
    is_repeatable = method in _REPEATABLE and (not has_body or body.content is not None)
    while True:
        try:
            return await asking.run(connect_timeout_s)
        except StaleConnection:
            if not is_repeatable:
                raise


def has_request_body(headers: RawHeaders) -> bool:
    """Whether a request announces a body."""
    length = find_header(headers, b"content-length")
    return find_header(headers, b"transfer-encoding") is not None or (length is not None and length != b"0")


class HeldBack:
    """Passes an answer's body on and keeps its end: `last` is what may leave only after settling."""

    def __init__(self, send: Send, *, length: int | None, is_event_stream: bool) -> None:
        self._send = send
        self._left = length
        self._is_event_stream = is_event_stream
        self.last = b""
        self.size = 0

    async def pass_on(self, chunk: bytes) -> None:
        """Send what is before, keep what may be the end."""
        self.size += len(chunk)
        if self._left is None:
            await self._pass_chunked(chunk)
            return
        self._left -= len(chunk)
        if self._left > 0:
            await self._write(chunk)
        else:
            await self._write(chunk[:-1])
            self.last = chunk[-1:]

    async def finish(self) -> None:
        """Let the end go."""
        await self._send({"type": "http.response.body", "body": self.last, "more_body": False})

    @property
    def is_short(self) -> bool:
        """Less came than was announced."""
        return self._left is not None and self._left > 0

    async def _pass_chunked(self, chunk: bytes) -> None:
        if self.last:
            await self._write(self.last)
            self.last = b""
        if self._is_event_stream and any(frame in chunk for frame in _FINAL_FRAMES):
            self.last = chunk
        else:
            await self._write(chunk)

    async def _write(self, piece: bytes) -> None:
        if piece:
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
