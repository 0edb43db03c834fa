"""An upstream that says exactly what a test wants, byte by byte, on a real socket."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from gateway.proxy import Answer, Body, ask_upstream
from gateway.upstream.pool import Pool
from gateway.upstream_guard import guarded_socket

Act = Callable[["Talk"], Coroutine[Any, Any, None]]


@dataclass
class Talk:
    """One connection as the upstream sees it; `number` counts them from 1."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def head(self) -> bytes:
        """The next request's head."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


@dataclass
class Scripted:
    """Where it listens, what it got, and a pool of connections to it."""

    pool: Pool
    port: int = 0
    scheme: str = "http"
    talks: int = 0
    heads: list[bytes] = field(default_factory=list)

    async def ask(
        self, method: str = "GET", *, body: Body | None = None, timeout_s: float = 2.0, connect_s: float = 1.0,
        host: str = "127.0.0.1", headers: list[tuple[str, str]] | None = None,
    ) -> Answer:  # fmt: skip
        sent = body or nothing()
        try:
            return await ask_upstream(
                self.pool, method=method, url=f"{self.scheme}://{host}:{self.port}/x?y=1", headers=headers or [],
                body=sent, has_body=body is not None, connect_timeout_s=connect_s, timeout_s=timeout_s,
            )  # fmt: skip
        finally:
            if body is None:
                sent.close()

    async def read(self, method: str = "GET", **options: Any) -> tuple[int, bytes]:
        """Status and whole body."""
        answer = await self.ask(method, **options)
        try:
            return answer.status, await rest_of(answer)
        finally:
            answer.close()


async def rest_of(answer: Answer) -> bytes:
    return b"".join([piece async for piece in answer.chunks()])


def nothing() -> Body:
    """A request without a body, whose client stays."""

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    return Body(receive, 0)


def body_of(*pieces: bytes) -> Body:
    """A request's body that is there already."""
    left = list(pieces)

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    return Body(receive, 2**30)


@asynccontextmanager
async def scripted(
    act: Act, *, most: int = 100, server_tls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Scripted]:
    """A server that does `act` on each connection, then closes it."""
    under_way: list[tuple[asyncio.Future[None], asyncio.StreamWriter]] = []
    upstream = Scripted(Pool(guarded_socket(), most=most, tls=tls), scheme="https" if server_tls else "http")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream.talks += 1
        acting = asyncio.ensure_future(act(Talk(upstream.talks, reader, writer)))
        under_way.append((acting, writer))
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await acting
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_tls)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        await upstream.pool.close()
        server.close()
        for acting, writer in under_way:
            acting.cancel()
            writer.transport.abort()
        await asyncio.gather(*(acting for acting, _ in under_way), return_exceptions=True)
        await asyncio.sleep(0.02)  # transports close in the loop's next turns
        await server.wait_closed()


def answering(*answers: bytes, closes: bool = False) -> Act:
    """Answers the requests of each connection in this order, then is silent, or closes."""

    async def act(talk: Talk) -> None:
        for answer in answers:
            await talk.head()
            await talk.say(answer)
        if not closes:
            await talk.reader.read()

    return act
