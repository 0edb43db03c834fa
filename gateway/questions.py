"""What a door of somebody else's asks of us: the body of `POST /api/keys/verify`, read and checked by hand (it is a hot path)."""

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from gateway.headers import RawHeaders, find_header
from gateway.problems import BODY_TOO_LARGE
from gateway.proxy import Receive
from metering.answers import Refusal

BODY_BYTES = 16 * 1024
LONGEST = 200
LONGEST_PATH = 4_000
_TEXTS = ("key", "route", "product", "method", "path", "meter", "units", "charge", "resource", "address")
_NOT_JSON = Refusal("parse_error", 400, "The body is not JSON", "Send one JSON object.")
_MEDIA_TYPE = Refusal(
    "unsupported_media_type", 415, "The body's media type is not read here", "Send `Content-Type: application/json`."
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Question:
    """One key, and what it shall be used for. Empty texts were not given; `units` in the meter's unit."""

    key: str
    route: str = ""
    product: str = ""
    method: str = "GET"
    path: str = ""
    meter: str = ""
    units: Decimal | None = None
    charge: str = ""
    resource: str = ""
    address: str = ""


class BadQuestion(Exception):
    """The request cannot be answered: 400, 413 or 415."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.code)


def invalid(field: str, what: str) -> BadQuestion:
    """A field that makes no sense."""
    return BadQuestion(
        Refusal("verification_invalid", 400, "The question makes no sense", f"`{field}`: {what}")
    )


async def read_question(headers: RawHeaders, receive: Receive) -> Question:
    """The question in a request. Raises BadQuestion."""
    media_type = (find_header(headers, b"content-type") or b"").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        raise BadQuestion(_MEDIA_TYPE)
    return parse_question(await _read_body(receive))


def parse_question(text: bytes) -> Question:
    """The question in a body. Raises BadQuestion."""
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise BadQuestion(_NOT_JSON) from None
    if not isinstance(body, dict):
        raise BadQuestion(_NOT_JSON)
    return _question(body)


async def _read_body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > BODY_BYTES:
            raise BadQuestion(BODY_TOO_LARGE)
    return body


def _question(body: dict[str, Any]) -> Question:
    for name, value in body.items():
        if name not in _TEXTS:
            raise invalid(str(name)[:60], "unknown field.")
        if not isinstance(value, str):
            raise invalid(name, "has to be a text.")
        if not value or len(value) > (LONGEST_PATH if name == "path" else LONGEST) or "\0" in value:
            raise invalid(name, "is empty, too long, or holds a NUL character.")
    if "key" not in body:
        raise invalid("key", "is required.")
    question = Question(**{**body, "units": _units(body.get("units"))})
    _check_target(question)
    return question


def _check_target(question: Question) -> None:
    """One way of naming what is called. Raises BadQuestion."""
    if question.route and (question.product or question.path):
        raise invalid("route", "name a route, or a product with a path, not both.")
    if question.path and not (question.product and question.path.startswith("/")):
        raise invalid("path", "starts with a slash and comes with its product.")
    if question.meter and (question.route or question.path):
        raise invalid("meter", "a route has its own meter.")
    counts = question.meter or question.route or question.path
    if question.units is not None and not counts:
        raise invalid("units", "comes with a meter or a route.")
    if question.charge and not counts:
        raise invalid("charge", "comes with a meter or a route.")


def _units(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        units = Decimal(text) if len(text) <= 40 else Decimal("nan")
    except InvalidOperation:
        units = Decimal("nan")
    if not units.is_finite() or units < 0:
        raise invalid("units", "has to be a decimal of 0 or more, as text.")
    return units
