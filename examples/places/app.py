"""The routes of Places. Errors are JSON: {"error": {"code", "message", "parameter"}}."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from examples.places import text as texts
from examples.places.cities import City, CityIndex, load_index, nearby, reverse, search
from examples.places.parameters import ApiError, bad_parameter, limit, number, required, text_of

EXPORT_LINES = 100  # cities in one chunk of an export
MAX_RADIUS_KM = 500


@asynccontextmanager
async def prepare(app: Starlette) -> AsyncIterator[None]:
    """Everything slow happens before the first request: the index, and the language profiles."""
    app.state.index = load_index()
    texts.languages("This sentence loads the language profiles.")
    yield


def _index(request: Request) -> CityIndex:
    index: CityIndex = request.app.state.index
    return index


def _country(request: Request, *, code: str) -> str:
    if code.upper() not in _index(request).by_country:
        raise bad_parameter("country", "is not the two-letter code of a country with cities here.")
    return code.upper()


def _with_distance(hits: list[tuple[City, float]]) -> list[dict[str, Any]]:
    return [{**city._asdict(), "distance_km": round(distance, 3)} for city, distance in hits]


def _point(request: Request) -> tuple[float, float]:
    return number(request, "lat", low=-90, high=90), number(request, "lon", low=-180, high=180)


async def search_cities(request: Request) -> Response:
    query = required(request, "q")
    if len(query) < 2 and query.isascii():
        raise bad_parameter("q", "needs at least two letters.")
    code = request.query_params.get("country")
    country = None if code is None else _country(request, code=code)
    hits = search(_index(request), query, country=country, limit=limit(request, default=10, most=50))
    return JSONResponse({"results": [{**city._asdict(), "score": round(score, 3)} for city, score in hits]})


async def reverse_geocode(request: Request) -> Response:
    lat, lon = _point(request)
    hits = reverse(_index(request), lat, lon, limit=limit(request, default=1, most=20))
    return JSONResponse({"results": _with_distance(hits)})


async def cities_nearby(request: Request) -> Response:
    lat, lon = _point(request)
    radius_km = number(request, "radius_km", low=0.1, high=MAX_RADIUS_KM)
    most = limit(request, default=50, most=500)
    return JSONResponse(
        {"results": _with_distance(nearby(_index(request), lat, lon, radius_km=radius_km, limit=most))}
    )


async def get_city(request: Request) -> Response:
    city = _index(request).by_id.get(request.path_params["geonameid"])
    if city is None:
        raise ApiError(404, "city_not_found", "There is no city with this id.")
    return JSONResponse(city._asdict())


async def export_country(request: Request) -> Response:
    cities = _index(request).by_country[_country(request, code=required(request, "country"))]
    return StreamingResponse(_lines(cities), media_type="application/x-ndjson")


async def _lines(cities: list[City]) -> AsyncIterator[str]:
    for first in range(0, len(cities), EXPORT_LINES):
        chunk = cities[first : first + EXPORT_LINES]
        yield "".join(json.dumps(city._asdict(), ensure_ascii=False) + "\n" for city in chunk)


async def detect_language(request: Request) -> Response:
    guesses = await run_in_threadpool(texts.languages, await text_of(request))
    return JSONResponse(
        {
            "language": guesses[0][0],
            "candidates": [{"language": name, "probability": round(share, 4)} for name, share in guesses],
        }
    )


async def measure_readability(request: Request) -> Response:
    return JSONResponse(asdict(await run_in_threadpool(texts.readability, await text_of(request))))


async def follow(socket: WebSocket) -> None:
    """Positions in, the nearest city of each out: `{"lat": 59.91, "lon": 10.75}`."""
    index: CityIndex = socket.app.state.index
    await socket.accept()
    with suppress(WebSocketDisconnect):
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            try:
                text = message.get("text") or message.get("bytes") or b""
                position = json.loads(text)
                lat, lon = float(position["lat"]), float(position["lon"])
                if not (-90 <= lat <= 90 and -180 <= lon <= 180):
                    raise ValueError
            except (ValueError, TypeError, KeyError):
                hint = 'Send a position: {"lat": 59.91, "lon": 10.75}.'
                await socket.send_json({"error": {"code": "bad_position", "message": hint}})
                continue
            await socket.send_json(_with_distance(reverse(index, lat, lon, limit=1))[0])


async def healthz(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _error(status: int, code: str, message: str, parameter: str = "") -> JSONResponse:
    error = {"code": code, "message": message}
    return JSONResponse({"error": error | ({"parameter": parameter} if parameter else {})}, status)


async def on_api_error(_: Request, exception: Exception) -> Response:
    assert isinstance(exception, ApiError)  # noqa: S101 - registered for this class only
    return _error(exception.status, exception.code, exception.message, exception.parameter)


async def on_not_enough_text(_: Request, __: Exception) -> Response:
    return _error(422, "not_enough_text", "The text has no words to judge.", "text")


async def on_http_error(_: Request, exception: Exception) -> Response:
    assert isinstance(exception, HTTPException)  # noqa: S101 - registered for this class only
    code = {404: "not_found", 405: "method_not_allowed"}.get(exception.status_code, "http_error")
    answer = _error(exception.status_code, code, exception.detail)
    answer.headers.update(exception.headers or {})
    return answer


async def on_failure(_: Request, __: Exception) -> Response:
    return _error(500, "internal_error", "Something went wrong here.")


app = Starlette(
    lifespan=prepare,
    routes=[
        Route("/v1/search", search_cities),
        Route("/v1/reverse", reverse_geocode),
        Route("/v1/nearby", cities_nearby),
        Route("/v1/cities/{geonameid:int}", get_city),
        Route("/v1/export", export_country),
        WebSocketRoute("/v1/follow", follow),
        Route("/v1/text/language", detect_language, methods=["POST"]),
        Route("/v1/text/readability", measure_readability, methods=["POST"]),
        Route("/healthz", healthz),
    ],
    exception_handlers={
        ApiError: on_api_error,
        texts.NotEnoughText: on_not_enough_text,
        HTTPException: on_http_error,
        Exception: on_failure,
    },
)
