"""A bare API: the least that uvicorn can answer. What the gateway adds is measured against it."""

from collections.abc import Awaitable, Callable
from typing import Any

BODY = b'{"results":[{"name":"Lisbon","country":"PT","population":517802}]}'
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]


async def app(scope: dict[str, Any], receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": BODY})
