"""The exchange with the upstream: the request's body in, the answer out, both streamed.

The end of an answer is held back until its event is in the stream: with a Content-Length the last byte, without a body
the head, otherwise the terminator; of event streams also the protocol's final frame (ENGINE.md, section 2).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from yarl import URL

from gateway.headers import RawHeaders, find_header

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

NO_BODY = frozenset({204, 304})
PIECE = 64 * 1024
_FINAL_FRAMES = (b"[DONE]", b"message_stop")
_AUTOMATIC = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class UpstreamUnavailable(Exception):
    """The upstream could not be reached (`is_untouched`: it never saw the request), or broke off before it answered."""

    def __init__(self, *, is_untouched: bool = False) -> None:
        self.is_untouched = is_untouched
        super().__init__()


class UpstreamTimeout(Exception):
    """The upstream took longer than the route allows."""


class UpstreamCut(Exception):
    """The upstream broke off in the middle of its answer."""


class ClientGone(Exception):
    """The client closed the connection."""


class BodyTooLarge(Exception):
    """The request's body is over the route's limit."""


@dataclass(slots=True)
class Body:
    """The request's body as it comes, counted; after its end it watches for the client's leaving."""

    receive: Receive
    limit: int
    size: int = 0
    is_gone: bool = False
    is_too_large: bool = False
    is_waiting: bool = False  # for the client, not for the upstream
    is_stalled: bool = False
    content: bytes | None = None  # what is sent in its place, as often as it is asked for, once it was read
    _unsent: int = 0
    _ended: bool = False
    _on_leaving: list[Callable[[], object]] = field(default_factory=list)
    _watch: "asyncio.Task[None] | None" = None

    async def read(self) -> bytes:
        """All of the body at once. Raises ClientGone or BodyTooLarge."""
        return b"".join([piece async for piece in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, piece by piece. Raises ClientGone or BodyTooLarge."""
        if self.content is not None:
            self._unsent = len(self.content)
            for start in range(0, len(self.content), PIECE):
                yield self.content[start : start + PIECE]
                self._unsent -= PIECE
            return
        while not self._ended:
            self.is_waiting = True
            message = await self.receive()
            self.is_waiting = False
            if message["type"] == "http.disconnect":
                self.is_gone = self._ended = True
                raise ClientGone
            piece = message.get("body", b"")
            self.size += len(piece)
            self._ended = not message.get("more_body", False)
            if self.size > self.limit:
                self.is_too_large = True
                raise BodyTooLarge
            if piece:
                yield piece
        self.watch()

    def watch(self) -> None:
        """Notice from now on when the client leaves; nothing else may read the body any more."""
        if self._watch is None:
            self._ended = True
            self._watch = asyncio.create_task(self._wait_for_leaving())

    @property
    def is_sent(self) -> bool:
        """The upstream has taken all of it, or there is none."""
        return self._watch is not None and self._unsent <= 0

    @property
    def progress(self) -> int:
        """Grows while the body is on its way."""
        return self.size - self._unsent

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
        self.is_gone = True
        for act in self._on_leaving:
            act()


@dataclass(slots=True)
class Answer:
    """An upstream's answer whose body is still to come."""

    response: aiohttp.ClientResponse
    method: str

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def headers(self) -> RawHeaders:
        return self.response.raw_headers

    @property
    def has_body(self) -> bool:
        length = self.response.headers.get("Content-Length")
        return self.method != "HEAD" and self.status not in NO_BODY and length != "0"

    @property
    def is_event_stream(self) -> bool:
        return self.response.content_type == "text/event-stream"

    def whole_body(self) -> bytes | None:
        """All of the body where it came with the head, as small ones do."""
        if not self.has_body:
            return b""
        content = self.response.content
        return content.read_nowait() if content.is_eof() and content.exception() is None else None

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises UpstreamCut or UpstreamTimeout."""
        try:
            async for chunk in self.response.content.iter_any():
                yield chunk
        except (TimeoutError, aiohttp.ServerTimeoutError) as error:
            raise UpstreamTimeout from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamCut from error

    def close(self) -> None:
        self.response.close()


async def ask_upstream(
    session: aiohttp.ClientSession, *, method: str, url: str, headers: list[tuple[str, str]], body: Body, has_body: bool,
    connect_timeout_s: float, timeout_s: float, stops_with_client: bool = True,
) -> Answer:  # fmt: skip
    """Send the request and wait for the answer's head; without `stops_with_client` also when the client leaves meanwhile.

    Raises UpstreamUnavailable, UpstreamTimeout, ClientGone or BodyTooLarge.
    """
    asking = asyncio.ensure_future(
        session.request(
            method,
            URL(url, encoded=True),
            headers=headers,
            data=body.chunks() if has_body else None,
            allow_redirects=False,
            skip_auto_headers=_AUTOMATIC,
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=connect_timeout_s + timeout_s,  # with the wait for a free connection
                sock_connect=connect_timeout_s,
                sock_read=timeout_s,
            ),
        )
    )
    if stops_with_client:
        body.on_leaving(asking.cancel)
    upload = asyncio.create_task(_cancel_when_stalled(asking, body, timeout_s)) if has_body else None
    try:
        return Answer(await asking, method)
    except asyncio.CancelledError:
        if body.is_gone:
            raise ClientGone from None
        if body.is_stalled:
            raise UpstreamTimeout from None
        raise
    except (BodyTooLarge, ClientGone):
        raise
    except (TimeoutError, aiohttp.ConnectionTimeoutError) as error:
        raise _timeout_or_unreachable(error) from error
    except (aiohttp.ClientError, OSError) as error:
        raise _cause(body, error) from error
    finally:
        if upload is not None:
            upload.cancel()


async def _cancel_when_stalled(asking: "asyncio.Future[Any]", body: Body, timeout_s: float) -> None:
    """aiohttp's time-outs begin when the request is sent: an upstream that takes none of it would be waited for forever."""
    seen = None
    while seen != body.progress or body.is_waiting:
        seen = body.progress
        await asyncio.sleep(timeout_s)
    if not body.is_sent:
        body.is_stalled = True
        asking.cancel()


def _timeout_or_unreachable(error: Exception) -> Exception:
    """A connection that is not made in time is an unreachable upstream, not a slow one."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return UpstreamUnavailable(is_untouched=True)
    return UpstreamTimeout()


def _cause(body: Body, error: Exception) -> Exception:
    """A broken request whose own body was the reason."""
    if body.is_too_large:
        return BodyTooLarge()
    if body.is_gone:
        return ClientGone()
    return UpstreamUnavailable(is_untouched=isinstance(error, aiohttp.ClientConnectorError))


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
