"""One connection to an upstream: a request at a time, its answer parsed as it comes.

What a proxy must not pass on is refused here: several lengths, a length beside chunks, codings other than chunks, folded
lines, bare line feeds (the parser's rules), other versions, statuses that are none, heads without end.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from gateway.upstream.errors import StaleConnection, UpstreamCut, UpstreamTimeout, UpstreamUnavailable
from gateway.upstream.origin import Origin

RawHeader = tuple[bytes, bytes]

LONGEST_FIELD = 32 * 1024
LARGEST_HEAD = 256 * 1024
MOST_INTERIM = 20  # answers (1xx) before the answer
MOST_UNREAD = 128 * 1024  # of a body that nobody takes: then the socket is not read any more
_WITHOUT_BODY = (204, 304)


class Listener(Protocol):
    """Who is told of an answer. Each is called at most once per piece that the network hands over."""

    def on_answer(self) -> None:
        """The head is there, with as much of the body as came with it."""

    def on_more(self) -> None:
        """More of the body, or its end."""

    def on_failed(self, error: Exception) -> None:
        """There will be no more: UpstreamUnavailable, UpstreamTimeout, UpstreamCut, or what `fail` was given."""


class Malformed(Exception):
    """An answer that is not to be passed on; never leaves this module."""


class Link(asyncio.Protocol):
    """What a connection to an upstream goes on as."""

    __slots__ = ()

    def close(self) -> None:
        """Give the connection up; nobody is told."""
        raise NotImplementedError


class Connection(Link):
    """Told its listener by `ask`; belongs to it until the answer was taken and `release` or `close` was called."""

    __slots__ = (
        "_deadline", "_interim", "_is_chunked", "_is_head_request", "_is_reading_paused", "_length", "_loop", "_parser", "_pieces",
        "_pool_told", "_timeout_s", "_timer", "_trailer_bytes", "_unread", "_unread_body", "_writable", "clock_stands",
        "error", "has_answered", "headers", "idle_since", "is_complete", "is_heard", "is_reusable", "is_uploading",
        "is_used", "listener", "origin", "status", "transport",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, origin: Origin, on_lost: "Callable[[Connection], object]"
    ) -> None:
        self._loop, self.origin, self._pool_told = loop, origin, on_lost
        self._parser = httptools.HttpResponseParser(self)
        self._timer: asyncio.TimerHandle | None = None
        self._writable: asyncio.Future[None] | None = None
        self._is_reading_paused = False
        self._deadline = self._timeout_s = 0.0
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # until it is connected
        self.listener: Listener | None = None
        self.idle_since = 0.0
        self.is_used = False  # for a request before this one
        self._forget_answer()

    def _forget_answer(self) -> None:
        self.status = 0
        self.headers: list[RawHeader] = []
        self.error: Exception | None = None
        self.has_answered = self.is_complete = self.is_heard = False
        self.is_reusable = True
        self.is_uploading = self.clock_stands = False
        self._pieces: list[bytes] = []
        self._unread = self._unread_body = self._trailer_bytes = self._interim = 0
        self._length: int | None = None
        self._is_chunked = self._is_head_request = False

    # --- what its user does --------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return not self.transport.is_closing()

    def ask(self, listener: Listener, request: bytes, *, is_head: bool, timeout_s: float) -> None:
        """Send a request (or, with `is_uploading`, what of it there is) and tell the listener of its answer. `timeout_s` is the
        longest pause of the upstream."""
        self.listener = listener
        if self.transport.is_closing():  # it ended before it was asked: nobody would tell of that any more
            self.fail(UpstreamUnavailable(is_untouched=True))
            return
        self._is_head_request = is_head
        self._timeout_s = timeout_s
        deadline = self._deadline = self._loop.time() + timeout_s
        if self._timer is None or self._timer.when() > deadline:
            self._arm(deadline)
        self.transport.write(request)

    def send(self, piece: bytes) -> None:
        """More of the request's body."""
        self._deadline = self._loop.time() + self._timeout_s
        self.transport.write(piece)

    async def drain(self) -> None:
        """Wait until the upstream has taken most of what was sent."""
        if self._writable is not None:
            await self._writable
            self._deadline = self._loop.time() + self._timeout_s

    def start_clock(self) -> None:
        """It is the upstream's turn again."""
        self.clock_stands = False
        self._deadline = self._loop.time() + self._timeout_s

    def take(self) -> bytes:
        """What of the body has come since it was last taken."""
        pieces = self._pieces
        if not pieces:
            return b""
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = []
        self._unread_body = 0
        if self._is_reading_paused:
            self._is_reading_paused = False
            self._deadline = self._loop.time() + self._timeout_s
            self.transport.resume_reading()
        return body

    def release(self) -> bool:
        """Done with a complete answer: whether the connection may serve another request; else it is closed."""
        is_reusable = (
            self.is_complete
            and self.is_reusable
            and not self.is_uploading
            and not self.transport.is_closing()
        )
        if not is_reusable:
            self.close()
            return False
        if self._is_head_request:
            self._parser = httptools.HttpResponseParser(self)
        self.listener = None
        self.is_used = True
        self._forget_answer()
        return True

    def close(self) -> None:
        """Give the connection up; nobody is told."""
        self.listener = None
        if self.transport is not None:
            self.transport.abort()

    def fail(self, error: Exception) -> None:
        """Give the connection up; the listener is told why."""
        if self.error is None and not self.is_complete:
            self.error = error
            listener, self.listener = self.listener, None
            if listener is not None:
                listener.on_failed(error)
        self.close()

    # --- what the transport does ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one without inheriting from it

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._end_of_input(is_clean=exc is None)
        self.resume_writing()
        self._pool_told(self)
        self._parser = None  # type: ignore[assignment]  # the two know each other

    def eof_received(self) -> None:
        self._end_of_input(is_clean=True)

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        waiting, self._writable = self._writable, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def data_received(self, data: bytes) -> None:
        listener = self.listener
        if listener is None or self.is_complete:  # nothing was asked: what comes belongs to no request
            self.is_reusable = False
            if listener is None:
                self.close()
            return
        self.is_heard = True
        had_answered = self.has_answered
        if had_answered:
            self._deadline = self._loop.time() + self._timeout_s
        else:  # a head that drips has no more time than one that does not come
            self._unread += len(data)
        try:
            self._parser.feed_data(data)
            if not self.has_answered and self._unread > LARGEST_HEAD:
                raise Malformed
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, Malformed):
            if self._break_off(had_answered=had_answered):
                return
        if not had_answered:
            if self.has_answered:
                listener.on_answer()
        else:
            listener.on_more()

    def _break_off(self, *, had_answered: bool) -> bool:
        """What came is no HTTP: whether that was of this answer. Behind a whole one it is nobody's."""
        self.is_reusable = False
        if not self.is_complete:
            self.fail(UpstreamCut() if had_answered else UpstreamUnavailable())
        return not self.is_complete

    def _end_of_input(self, *, is_clean: bool) -> None:
        """The upstream has closed: the end of a body without a length, else a fault."""
        if self.listener is None or self.is_complete:
            return
        if not self.has_answered:
            is_stale = self.is_used and not self.is_heard
            self.fail(StaleConnection() if is_stale else UpstreamUnavailable())
        elif is_clean and self._length is None and not self._is_chunked:
            self.is_complete, self.is_reusable = True, False
            self.listener.on_more()
        else:
            self.fail(UpstreamCut())

    # --- what the parser finds -----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.is_complete:
            raise Malformed

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if len(value) > LONGEST_FIELD or len(name) > LONGEST_FIELD:
            raise Malformed
        if self.has_answered:  # a trailer: bounded, and nobody's
            self._trailer_bytes += len(name) + len(value)
            if self._trailer_bytes > LONGEST_FIELD:
                raise Malformed
            return
        self.headers.append((name, value))
        if name == b"content-length":
            self._length = int(value)
        elif name == b"transfer-encoding":
            if self._is_chunked or value.lower() != b"chunked":
                raise Malformed
            self._is_chunked = True

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._interim += 1
            if self._interim > MOST_INTERIM:
                raise Malformed
            self._deadline = self._loop.time() + self._timeout_s
            return
        if self._unread > LARGEST_HEAD and sum(len(n) + len(v) for n, v in self.headers) > LARGEST_HEAD:
            raise Malformed
        version = self._parser.get_http_version()
        if (
            not 200 <= status < 600
            or version not in ("1.1", "1.0")
            or (self._is_chunked and version == "1.0")
        ):
            raise Malformed
        self.status, self.has_answered = status, True
        self._deadline = self._loop.time() + self._timeout_s
        if self._is_head_request:
            self.is_complete = True
            self.is_reusable = self._stays_open(version)
        else:
            self.is_reusable = self._parser.should_keep_alive()
            if status in _WITHOUT_BODY:
                self._length = 0

    def on_body(self, body: bytes) -> None:
        if self.is_complete:
            raise Malformed  # an answer to HEAD has none
        self._pieces.append(body)
        self._unread_body += len(body)
        if self._unread_body > MOST_UNREAD and not self._is_reading_paused:
            self._is_reading_paused = True
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        if self.has_answered:
            self.is_complete = True
            return
        self.headers.clear()  # of an interim answer
        self._length, self._is_chunked = None, False

    def _stays_open(self, version: str) -> bool:
        """For answers to HEAD, where the parser waits for a body."""
        values = [value for name, value in self.headers if name == b"connection"]
        tokens = {token.strip().lower() for value in values for token in value.split(b",")}
        return b"close" not in tokens and (version == "1.1" or b"keep-alive" in tokens)

    # --- time ----------------------------------------------------------------------------------------------------

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        """One timer for all requests of the connection: set anew only when it rings, or for a shorter time."""
        self._timer = None
        if self.listener is None or self.is_complete:
            return
        if self.clock_stands or self._is_reading_paused:  # the client's turn
            self._deadline = self._loop.time() + self._timeout_s
        if self._deadline <= self._loop.time():
            self.fail(UpstreamTimeout())
        else:
            self._arm(self._deadline)


def head_of_request(method: bytes, target: bytes, lines: list[bytes]) -> bytes:
    """A request's head of whole header lines. Raises ValueError where a value would break out of its line."""
    head = b"".join([method, b" ", target, b" HTTP/1.1\r\n", *lines, b"\r\n"])
    if head.count(b"\n") != len(lines) + 2 or head.count(b"\r") != len(lines) + 2 or b"\0" in head:
        raise ValueError("a header's value has a line break in it")
    return head


def header_line(name: str, value: str) -> bytes:
    """One line of a head."""
    return f"{name}: {value}\r\n".encode("latin-1")
