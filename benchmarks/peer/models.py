"""An API of a language model that streams: as cheap as Python makes it, because thousands of its streams are open at once.

`python -m benchmarks.peer.models` prints its address. The first piece of text comes at once; header `X-Pieces` says how many
follow (0), `X-Pause` how many seconds pass before each (1). At the end stands the usage, as `include_usage` asks for it.
"""

import asyncio
import re
from typing import cast

import uvloop

from gateway.descriptors import raise_descriptor_limit

_HEADER = re.compile(rb"(?i)\r\n(content-length|x-pieces|x-pause): *([\d.]+)")
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNK = b'{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[%s]%s}'
INPUT_TOKENS = 20


def _frame(data: bytes) -> bytes:
    text = b"data: " + data + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(text), text)


PIECE = _frame(_CHUNK % (b'{"index":0,"delta":{"content":"word "},"finish_reason":null}', b',"usage":null'))


def _end(pieces: int) -> bytes:
    usage = b',"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}'
    told = usage % (INPUT_TOKENS, pieces, INPUT_TOKENS + pieces)
    stop = _CHUNK % (b'{"index":0,"delta":{},"finish_reason":"stop"}', b',"usage":null')
    return _frame(stop) + _frame(_CHUNK % (b"", told)) + _frame(b"[DONE]") + b"0\r\n\r\n"


class Stream(asyncio.Protocol):
    """One connection; one request after the other."""

    __slots__ = ("_next", "_read", "_transport")

    def __init__(self) -> None:
        self._read = b""
        self._next: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, found, body = self._read.partition(b"\r\n\r\n")
        if not found:
            return
        values = {name.lower(): value for name, value in _HEADER.findall(head)}
        if len(body) < int(values.get(b"content-length", 0)):
            return
        self._read = b""
        self._transport.write(_HEAD + PIECE)
        self._go_on(int(values.get(b"x-pieces", 0)), float(values.get(b"x-pause", 1)), 1)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._next is not None:
            self._next.cancel()

    def _go_on(self, left: int, pause: float, written: int) -> None:
        if not left:
            self._next = None
            self._transport.write(_end(written))
            return
        self._next = asyncio.get_running_loop().call_later(pause, self._write, left - 1, pause, written + 1)

    def _write(self, left: int, pause: float, written: int) -> None:
        self._transport.write(PIECE)
        self._go_on(left, pause, written)


async def main() -> None:
    """Until it is stopped."""
    raise_descriptor_limit()
    server = await asyncio.get_running_loop().create_server(Stream, "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
