"""An API that speaks WebSocket, well and badly on demand: `python -m tests.gateway.websocket.upstream`, then its address.

`GET /log` tells what was seen since it was last asked: names of acts, and how connections ended.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

seen: list[str] = []


async def echo(ws: ServerConnection, _: str) -> None:
    async for message in ws:
        await ws.send(message)


async def head(ws: ServerConnection, _: str) -> None:
    """Tell what the handshake carried."""
    assert ws.request is not None
    await ws.send(json.dumps({"path": ws.request.path, "headers": list(ws.request.headers.raw_items())}))
    await ws.wait_closed()


async def greet(ws: ServerConnection, times: str) -> None:
    for number in range(int(times)):
        await ws.send(f"hello {number}")
    await ws.close(1000, "that was all")


async def silent(ws: ServerConnection, _: str) -> None:
    """Takes everything and says nothing."""
    async for message in ws:
        seen.append(f"got {len(message)}")


async def deaf(ws: ServerConnection, _: str) -> None:
    """Takes nothing."""
    await ws.wait_closed()


async def closes(ws: ServerConnection, code: str) -> None:
    await ws.recv()
    await ws.close(int(code), "said so")


async def cut(ws: ServerConnection, _: str) -> None:
    await ws.recv()
    ws.transport.abort()


async def flood(ws: ServerConnection, _: str) -> None:
    """As much as is taken, in messages of 64 kB."""
    sent = 0
    try:
        while True:
            await ws.send(b"x" * 65_536)
            sent += 1
            seen[:] = [line for line in seen if not line.startswith("sent")] + [f"sent {sent}"]
    finally:
        seen.append("flooded")


async def late(ws: ServerConnection, _: str) -> None:
    """Accepts after a second, then talks on and on."""
    while True:
        await ws.send("still here")
        await asyncio.sleep(0.1)


async def malformed(ws: ServerConnection, _: str) -> None:
    await ws.recv()
    ws.transport.write(b"\xff\xff\xff\xff")
    await ws.wait_closed()


ACTS: dict[str, Callable[[ServerConnection, str], Awaitable[None]]] = {
    act.__name__: act for act in (echo, head, greet, silent, deaf, closes, cut, flood, late, malformed)
}


async def answer(connection: ServerConnection, request: Request) -> Response | None:
    """Plain answers; None for those that become WebSockets."""
    _, name, *rest = request.path.partition("?")[0].split("/")
    if name == "log":
        response = connection.respond(200, json.dumps(seen))
        seen.clear()
        return response
    if name == "refuse":
        response = connection.respond(int(rest[0]), "not you")
        response.headers["X-Why"] = "because"
        return response
    if name == "hang":
        await asyncio.sleep(30)
    if name == "late":
        await asyncio.sleep(1)
    return None


async def act(ws: ServerConnection) -> None:
    assert ws.request is not None
    _, name, *rest = (
        ws.request.path.partition("?")[0].removeprefix("/small").removeprefix("/taken").split("/")
    )
    seen.append(name)
    try:
        await ACTS[name](ws, rest[0] if rest else "")
    except ConnectionClosed:
        pass
    finally:
        await ws.wait_closed()
        seen.append(f"{name} closed {ws.close_code}")


async def main() -> None:
    async with serve(
        act, "127.0.0.1", 0, process_request=answer, subprotocols=["chat"],  # type: ignore[list-item]  # a NewType of str
        select_subprotocol=lambda ws, offered: next((name for name in offered if name == "chat"), None),
        max_size=None, ping_interval=None,
    ) as server:  # fmt: skip
        port = next(iter(server.sockets)).getsockname()[1]
        print(f"Upstream: http://127.0.0.1:{port}", flush=True)  # noqa: T201 - its address
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
