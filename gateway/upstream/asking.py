"""Asking an upstream: from a request's head to the answer's, for code that awaits."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from gateway.upstream.answer import Answer
from gateway.upstream.connection import Connection, head_of_request, header_line
from gateway.upstream.errors import BodyTooLarge, ClientGone, UpstreamUnavailable
from gateway.upstream.origin import Origin
from gateway.upstream.pool import Pool

_NAMES_LENGTH = frozenset({"POST", "PUT", "PATCH"})


class RequestBody(Protocol):
    """What of a request's body is asked here."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body, piece by piece. Raises ClientGone or BodyTooLarge."""


class Asking:
    """One request on its way to an upstream's answer."""

    def __init__(
        self,
        pool: Pool,
        origin: Origin,
        method: str,
        request: bytes,
        body: RequestBody | None,
        timeout_s: float,
        *,
        is_chunked: bool,
    ) -> None:
        self._pool, self._origin, self._method, self._request = pool, origin, method, request
        self._body, self._timeout_s = body, timeout_s
        self._is_chunked = is_chunked
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._upload: asyncio.Task[None] | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._has_left = False

    async def run(self, connect_timeout_s: float) -> Answer:
        """Once; the caller repeats what may be repeated."""
        try:
            connection = self._connection = await self._connect(connect_timeout_s)
            self._answer = asyncio.get_running_loop().create_future()
            connection.is_uploading = self._body is not None
            connection.ask(self, self._request, is_head=self._method == "HEAD", timeout_s=self._timeout_s)
            if self._body is not None:
                self._upload = asyncio.create_task(self._send_body(connection, self._body))
            return await self._answer
        except BaseException:
            self._stop()
            raise

    def leave(self) -> None:
        """The client has left: nobody waits for an answer any more."""
        self._has_left = True
        if self._connection is not None:
            if self._answer is not None and not self._answer.done():
                self._connection.fail(ClientGone())
        elif self._connecting is not None:
            self._connecting.cancel()

    def on_answer(self) -> None:
        if self._connection is None or self._answer is None:
            return
        answer = Answer(self._connection, self._pool, self._method)
        if self._answer.done():  # who asked is gone
            answer.close()
            return
        answer.upload = self._upload
        self._answer.set_result(answer)

    def on_more(self) -> None:
        """There is none before the answer."""

    def on_failed(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    async def _connect(self, connect_timeout_s: float) -> Connection:
        if self._has_left:
            raise ClientGone
        idle = self._pool.take(self._origin)
        if idle is not None:
            return idle
        self._connecting = asyncio.create_task(
            self._pool.connection(self._origin, connect_s=connect_timeout_s, wait_s=self._timeout_s)
        )
        try:
            connection = await asyncio.shield(self._connecting)
        except asyncio.CancelledError:
            self._connecting.cancel()
            self._connecting.add_done_callback(self._put_back)
            if self._has_left:
                raise ClientGone from None
            raise
        finally:
            self._connecting = None
        return self._unless_left(connection)

    def _unless_left(self, connection: Connection) -> Connection:
        if self._has_left:
            self._pool.put_back(connection)
            raise ClientGone
        return connection

    def _put_back(self, connecting: "asyncio.Task[Connection]") -> None:
        """Whoever asked is gone, in the very moment in which a connection came about."""
        if not connecting.cancelled() and connecting.exception() is None:
            self._pool.put_back(connecting.result())

    async def _send_body(self, connection: Connection, body: RequestBody) -> None:
        try:
            connection.clock_stands = True  # until the client has sent something
            async for piece in body.chunks():
                if not connection.is_open:
                    return
                connection.start_clock()
                connection.send(b"%x\r\n%b\r\n" % (len(piece), piece) if self._is_chunked else piece)
                await connection.drain()
                connection.clock_stands = True
            connection.start_clock()
            if self._is_chunked and connection.is_open:
                connection.send(b"0\r\n\r\n")
            connection.is_uploading = False
        except (ClientGone, BodyTooLarge) as error:
            connection.fail(error)
        except Exception:
            connection.fail(UpstreamUnavailable())
            raise

    def _stop(self) -> None:
        if self._upload is not None:
            self._upload.cancel()
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def request_head(
    method: str, origin: Origin, target: bytes, headers: Sequence[tuple[str, str]], *, is_chunked: bool
) -> bytes:
    """The head of a request. Raises ValueError."""
    lines = [header_line(name, value) for name, value in headers]
    names = {name.lower() for name, _ in headers}
    if "host" not in names:
        lines.insert(0, b"Host: %b\r\n" % origin.authority)
    if is_chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    elif method in _NAMES_LENGTH and "content-length" not in names:
        lines.append(b"Content-Length: 0\r\n")
    return head_of_request(method.encode("ascii"), target, lines)
