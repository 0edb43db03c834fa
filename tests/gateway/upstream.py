"""An API that behaves badly on demand, in the standard library alone: `python -m tests.gateway.upstream`, then its address.

`/log` tells what was seen since it was last asked: names of requests, and `left` when a caller closed early.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from typing import TypeAlias

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
PIECE = b"x" * 65_536
seen: list[str] = []


class Request:
    """One request; its body is only hashed and counted."""

    def __init__(self, reader: Reader, writer: Writer, head: bytes) -> None:
        self.reader, self.writer = reader, writer
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = first.split(" ")
        self.headers = [line.split(": ", 1) for line in lines if line]
        self.size, self.digest = 0, hashlib.sha256()

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")

    async def read_body(self) -> None:
        if self.header("transfer-encoding") == "chunked":
            while length := int(await self.reader.readline(), 16):
                await self._take(length)
                await self.reader.readline()
            await self.reader.readline()
        elif length := int(self.header("content-length") or 0):
            await self._take(length)

    async def _take(self, length: int) -> None:
        while length:
            piece = await self.reader.read(min(length, 65_536))
            if not piece:
                raise ConnectionError("the caller left")
            length -= len(piece)
            self.size += len(piece)
            self.digest.update(piece)

    def head(self, status: int, *lines: str) -> None:
        self.writer.write("\r\n".join([f"HTTP/1.1 {status} Some", *lines, "", ""]).encode())

    async def answer(self, status: int, body: bytes, *lines: str) -> None:
        self.head(status, f"Content-Length: {len(body)}", *lines)
        if self.method != "HEAD":
            self.writer.write(body)
        await self.writer.drain()

    async def chunk(self, body: bytes) -> None:
        self.writer.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
        await self.writer.drain()


async def echo(request: Request, _: str) -> None:
    document = {
        "method": request.method, "target": request.target, "headers": request.headers, "size": request.size,
        "sha256": request.digest.hexdigest(),
    }  # fmt: skip
    await request.answer(
        200, json.dumps(document).encode(), "Content-Type: application/json", "X-Upstream: yes",
        "RateLimit: forged", "X-Request-Id: forged", "Set-Cookie: a=1", "Set-Cookie: b=2",
    )  # fmt: skip


async def tell(request: Request, where: str) -> None:
    """Says the credential it was given again."""
    token = request.header("x-token")
    lines = [
        f"X-Token: {token}",
        f"X-Seen: you sent {token}!",
        "X-Upstream: yes",
        f"Location: /next?token={token}",
    ]
    await request.answer(302 if where == "redirect" else 200, b"told", *lines)


async def log(request: Request, _: str) -> None:
    body = json.dumps(seen).encode()
    seen.clear()
    await request.answer(200, body)


async def status(request: Request, number: str) -> None:
    if number in ("204", "304"):
        request.head(int(number))
        await request.writer.drain()
    else:
        await request.answer(int(number), number.encode(), "Location: /elsewhere")


async def busy(request: Request, _: str) -> None:
    await request.answer(503, b"busy", "Retry-After: 7")


async def not_modified(request: Request, _: str) -> None:
    request.head(304, "Content-Length: 100", 'ETag: "1"')
    await request.writer.drain()


async def empty(request: Request, _: str) -> None:
    await request.answer(200, b"")


async def slow(request: Request, seconds: str) -> None:
    await asyncio.sleep(float(seconds))
    await request.answer(200, b"late")


async def stall(request: Request, seconds: str) -> None:
    request.head(200, "Content-Length: 8")
    request.writer.write(b"half")
    await request.writer.drain()
    await asyncio.sleep(float(seconds))


async def cut(request: Request, _: str) -> None:
    request.head(200, "Content-Length: 1000")
    request.writer.write(b"only this")
    await request.writer.drain()
    request.writer.close()


async def cut_chunked(request: Request, _: str) -> None:
    request.head(200, "Transfer-Encoding: chunked")
    await request.chunk(b"only this")
    request.writer.close()


async def hang_up(request: Request, _: str) -> None:
    request.writer.close()


async def sleep(request: Request, seconds: str) -> None:
    await asyncio.sleep(float(seconds))
    await request.answer(200, b"late")


async def chunked(request: Request, _: str) -> None:
    request.head(200, "Transfer-Encoding: chunked", "Content-Type: text/plain")
    for body in (b"one,", b"two,", b"three"):
        await request.chunk(body)
    request.writer.write(b"0\r\n\r\n")


async def stream(request: Request, seconds: str) -> None:
    request.head(200, "Transfer-Encoding: chunked", "Content-Type: text/event-stream")
    for body in (b"data: one\n\n", b"data: two\n\n", b"data: [DONE]\n\n"):
        await request.chunk(body)
        await asyncio.sleep(float(seconds))
    request.writer.write(b"0\r\n\r\n")


async def big(request: Request, size: str) -> None:
    request.head(200, f"Content-Length: {size}")
    left = int(size)
    while left:
        request.writer.write(PIECE[:left])
        left -= min(left, len(PIECE))
        await request.writer.drain()


async def endless(request: Request, _: str) -> None:
    request.head(200, "Transfer-Encoding: chunked")
    while True:
        await request.chunk(b"more")
        await asyncio.sleep(0.05)


ACTS: dict[str, Callable[[Request, str], Awaitable[None]]] = {
    name.replace("_", "-"): act
    for name, act in list(globals().items())
    if asyncio.iscoroutinefunction(act) and not name.startswith("_")
}


async def _act(request: Request) -> None:
    """Carry the named act out; notice when the caller leaves meanwhile."""
    found = re.match(r"/([a-z-]+)/?([^?/]*)", request.target)
    name = found[1] if found else "echo"
    if name != "log":
        seen.append(name)
    acting = asyncio.ensure_future(ACTS.get(name, echo)(request, found[2] if found else ""))
    leaving = asyncio.ensure_future(request.reader.read(1))
    done, _ = await asyncio.wait({acting, leaving}, return_when=asyncio.FIRST_COMPLETED)
    if acting in done:
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        acting.result()
    else:
        seen.append("left")
        acting.cancel()
        await asyncio.gather(acting, return_exceptions=True)
        raise ConnectionError("the caller left")


async def _serve(reader: Reader, writer: Writer) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            request = Request(reader, writer, head)
            await request.read_body()
            await _act(request)
            if writer.is_closing():
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0, limit=1 << 20)
    port = server.sockets[0].getsockname()[1]
    print(f"Upstream: http://127.0.0.1:{port}", flush=True)  # noqa: T201 - its address
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
