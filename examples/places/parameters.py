"""What callers send, checked: each reader returns a value or raises ApiError, which names the parameter."""

import json
import math

from starlette.requests import Request

MAX_TEXT_BYTES = 64 * 1024


class ApiError(Exception):
    def __init__(self, status: int, code: str, message: str, parameter: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.parameter = status, code, message, parameter


def bad_parameter(name: str, message: str) -> ApiError:
    return ApiError(400, "invalid_parameter", f"{name}: {message}", name)


def required(request: Request, name: str, *, longest: int = 100) -> str:
    value = request.query_params.get(name, "").strip()
    if not value:
        raise bad_parameter(name, "is required.")
    if len(value) > longest:
        raise bad_parameter(name, f"has more than {longest} characters.")
    return value


def number(request: Request, name: str, *, low: float, high: float) -> float:
    try:
        value = float(required(request, name))
    except ValueError as exception:
        raise bad_parameter(name, "is not a number.") from exception
    if not (math.isfinite(value) and low <= value <= high):
        raise bad_parameter(name, f"must lie between {low:g} and {high:g}.")
    return value


def limit(request: Request, *, default: int, most: int) -> int:
    text = request.query_params.get("limit", str(default))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= most):
        raise bad_parameter("limit", f"must be a whole number from 1 to {most}.")
    return int(text)


async def text_of(request: Request) -> str:
    """The member `text` of the JSON body. Reads no more of a body than is allowed."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_TEXT_BYTES:
            raise ApiError(413, "text_too_long", f"The body may have {MAX_TEXT_BYTES} bytes.")
    try:
        document = json.loads(bytes(body))
    except (ValueError, RecursionError) as exception:
        raise ApiError(400, "invalid_json", "The body is not JSON.") from exception
    text = document.get("text") if isinstance(document, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise bad_parameter("text", "is required: a text that is not empty.")
    return text
