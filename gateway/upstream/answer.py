"""An upstream's answer whose body is still to come, for code that awaits."""

import asyncio
from collections.abc import AsyncIterator

from gateway.upstream.connection import Connection, RawHeader
from gateway.upstream.errors import UpstreamCut, UpstreamTimeout
from gateway.upstream.pool import Pool

NO_BODY = frozenset({204, 304})


class Answer:
    """Listens to its connection until the body was taken or `close` was called; one of them has to come."""

    __slots__ = (
        "_connection",
        "_error",
        "_event",
        "_is_over",
        "_pool",
        "headers",
        "method",
        "status",
        "upload",
    )

    def __init__(self, connection: Connection, pool: Pool, method: str) -> None:
        self.method, self.status = method, connection.status
        self.headers: list[RawHeader] = connection.headers  # names in lower case
        self.upload: asyncio.Task[None] | None = None
        self._connection, self._pool = connection, pool
        self._event: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._is_over = False
        connection.listener = self

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header."""
        for candidate, value in self.headers:
            if candidate == name:
                return value
        return None

    @property
    def has_body(self) -> bool:
        return self.method != "HEAD" and self.status not in NO_BODY and self.header(b"content-length") != b"0"

    @property
    def is_event_stream(self) -> bool:
        kind = self.header(b"content-type") or b""
        return kind.partition(b";")[0].strip().lower() == b"text/event-stream"

    def whole_body(self) -> bytes | None:
        """All of the body where it came with the head, as small ones do."""
        if not self._connection.is_complete:
            return b"" if not self.has_body else None
        body = self._connection.take()
        self._end()
        return body

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises UpstreamCut or UpstreamTimeout."""
        return self._chunks_in_time() if self._pool.longest_answer_s else self._chunks()

    async def _chunks_in_time(self) -> AsyncIterator[bytes]:
        timer = asyncio.get_running_loop().call_later(self._pool.longest_answer_s, self._run_out)
        try:
            async for piece in self._chunks():
                yield piece
        finally:
            timer.cancel()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while not self._is_over:
            piece = self._connection.take()
            if piece:
                yield piece
            elif self._connection.is_complete:
                self._end()
                return
            else:
                await self._more()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Want no more of it; who waits for more is told that it was cut."""
        if not self._is_over:
            self._connection.fail(UpstreamCut())
            self._end()
            self._wake()

    def on_answer(self) -> None:
        """Came before."""

    def on_more(self) -> None:
        self._wake()

    def on_failed(self, error: Exception) -> None:
        self._error = error if isinstance(error, UpstreamTimeout) else UpstreamCut()
        self._is_over = True
        self._stop_upload()
        self._wake()

    def _run_out(self) -> None:
        if not self._is_over:
            self._connection.fail(UpstreamTimeout())

    async def _more(self) -> None:
        self._event = asyncio.get_running_loop().create_future()
        try:
            await self._event
        finally:
            self._event = None

    def _wake(self) -> None:
        if self._event is not None and not self._event.done():
            self._event.set_result(None)

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._stop_upload()
            self._pool.give_back(self._connection)

    def _stop_upload(self) -> None:
        if self.upload is not None:
            self.upload.cancel()
