"""Refusals of the gateway as RFC 9457 documents; never HTML, always with a code and a request id."""

import orjson
from django.conf import settings

from gateway.headers import encoded
from gateway.proxy import Send
from metering.answers import NOT_ON_SALE, Headers, Refusal

CLIENT_GONE_STATUS = 499  # what proxies log for it; nobody receives it

NOT_FOUND = NOT_ON_SALE
BAD_REQUEST = Refusal(
    "bad_request", 400, "The request is malformed", "Its head is ambiguous or contradicts itself."
)
BAD_PATH = Refusal(
    "bad_path", 400, "The path is not accepted", "It contains dot segments or a NUL character."
)
HEADERS_TOO_LARGE = Refusal(
    "headers_too_large", 431, "The headers are too large", "At most 100 lines and 32 kB in all."
)
REQUEST_TIMEOUT = Refusal(
    "request_timeout", 408, "The request took too long", "Send it without long pauses. Nothing was charged."
)
BODY_TOO_LARGE = Refusal("body_too_large", 413, "The body is too large", "It is over the route's limit.")
UPGRADE_REFUSED = Refusal(
    "upgrade_not_supported",
    501,
    "Upgrades are not supported here",
    "This route takes no WebSockets. Use plain HTTP.",
)
UPSTREAM_UNAVAILABLE = Refusal(
    "upstream_unavailable",
    502,
    "The API did not answer",
    "It could not be reached. The call was not charged.",
)
UPSTREAM_TIMEOUT = Refusal(
    "upstream_timeout",
    504,
    "The API took too long",
    "No answer within the route's time. The call was not charged.",
)
NOT_RECORDED = Refusal(
    "metering_unavailable",
    503,
    "Metering is unavailable",
    "The API was called, but the call could not be recorded. It was not charged.",
)
INTERNAL_ERROR = Refusal(
    "internal_error", 500, "Something went wrong on our side", "The call was not charged."
)

HEADER_FAULTS = {"headers_too_large": HEADERS_TOO_LARGE, "bad_request": BAD_REQUEST}


def method_not_allowed(allowed: tuple[str, ...]) -> Refusal:
    """405 with the methods that fit."""
    return Refusal(
        "method_not_allowed", 405, "This method is not allowed here", f"Allowed: {', '.join(allowed)}.",
        [("Allow", ", ".join(allowed))],
    )  # fmt: skip


async def send_refusal(
    send: Send, refusal: Refusal, *, request_id: str, path: str, method: str, extra: Headers | None = None
) -> None:
    """Answer with a problem document (its head only for HEAD)."""
    headers, body = problem_answer(refusal, request_id=request_id, path=path)
    start = {
        "type": "http.response.start",
        "status": refusal.status,
        "headers": encoded([*headers, *(extra or [])]),
    }
    await send(start)
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


def problem_answer(refusal: Refusal, *, request_id: str, path: str) -> tuple[Headers, bytes]:
    """A refusal's headers and body."""
    body = orjson.dumps(refusal.body(request_id=request_id, instance=path, docs_url=settings.PORTAL_URL))
    headers = [
        ("Content-Type", "application/problem+json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Request-Id", request_id),
        *refusal.headers,
    ]
    return headers, body
