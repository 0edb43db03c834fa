"""An upstream that takes a request's body slowly, or not at all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.proxy import Body, UpstreamTimeout, ask_upstream
from gateway.upstream.pool import Pool
from gateway.upstream_guard import guarded_socket

PIECE = b"x" * 65_536
PIECES = 200


def _client(pause_s: float = 0.0) -> Body:
    """A request's body that comes in so many pieces."""
    left = PIECES

    async def receive() -> dict[str, Any]:
        nonlocal left
        if left == 0:
            await asyncio.Event().wait()
        left -= 1
        await asyncio.sleep(pause_s)
        return {"type": "http.request", "body": PIECE, "more_body": left > 0}

    return Body(receive, limit=2**30)


@asynccontextmanager
async def _upstream(*, reads: int, pause_s: float) -> AsyncIterator[str]:
    """Reads so many times and then no more."""

    enough, ended = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = 0
        for _ in range(reads):
            await asyncio.sleep(pause_s)
            size += len(await reader.read(1 << 20))
            if size >= PIECES * len(PIECE):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                break
        await enough.wait()
        writer.transport.abort()
        ended.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        enough.set()
        await ended.wait()
        await asyncio.sleep(0)  # the transport closes in the loop's next turn


async def _ask(url: str, body: Body) -> int:
    pool = Pool(guarded_socket())
    try:
        answer = await ask_upstream(
            pool, method="POST", url=url, headers=[("Host", "a")], body=body, has_body=True,
            connect_timeout_s=1, timeout_s=0.3,
        )  # fmt: skip
        answer.close()
        return answer.status
    finally:
        body.close()
        await pool.close()


async def test_upstream_that_stops_taking_the_body_is_not_waited_for() -> None:
    async with _upstream(reads=1, pause_s=0.0) as url:
        with pytest.raises(UpstreamTimeout):
            await asyncio.wait_for(_ask(url, _client()), 5)


async def test_upload_may_take_longer_than_the_routes_time() -> None:
    async with _upstream(reads=1000, pause_s=0.01) as url:
        assert await _ask(url, _client(pause_s=0.005)) == 200
