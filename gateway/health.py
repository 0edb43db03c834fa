"""`/livez`: the process answers. `/readyz`: the catalogue is loaded and Redis answers."""

import orjson

from gateway.headers import encoded
from gateway.proxy import Send
from gateway.snapshot import Catalogue
from metering.engine import AsyncEngine, MeteringUnavailable


async def answer_health(path: str, catalogue: Catalogue, engine: AsyncEngine, send: Send) -> None:
    """200 when it can serve calls, else 503 with what is missing. Not public: names nothing but parts."""
    checks = (
        {} if path == "/livez" else {"catalogue": catalogue.is_loaded, "redis": await _redis_answers(engine)}
    )
    is_ready = all(checks.values())
    body = orjson.dumps({"status": "ok" if is_ready else "unavailable", **checks})
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    await send(
        {"type": "http.response.start", "status": 200 if is_ready else 503, "headers": encoded(headers)}
    )
    await send({"type": "http.response.body", "body": body})


async def _redis_answers(engine: AsyncEngine) -> bool:
    try:
        await engine.ping()
    except MeteringUnavailable:
        return False
    return True
