"""The API that is measured: a bare ASGI answer of ordinary size, without a framework."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from benchmarks.document import DOCUMENT

BODY = orjson.dumps(DOCUMENT)
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())],
}


async def app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    if scope["type"] == "http":
        await send(START)
        await send({"type": "http.response.body", "body": BODY})
