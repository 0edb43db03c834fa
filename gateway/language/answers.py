"""Refusals and headers in the shapes that the OpenAI and Anthropic SDKs read; codes and statuses stay ours.

Sources: OpenAI's `error` object and `x-ratelimit-*` headers (guide on rate limits), Anthropic's errors and
`anthropic-ratelimit-*` headers (API reference, rate limits).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import orjson

from gateway.headers import encoded
from gateway.proxy import Send
from gateway.routes import ModelEntry
from metering.answers import Headers, Refusal, counted_by, nearest
from metering.calls import WindowState
from plans.models import Dialect

_OPENAI_TYPES = {400: "invalid_request_error", 401: "authentication_error", 402: "insufficient_quota", 403: "permission_error",
                 404: "not_found_error", 413: "invalid_request_error", 429: "rate_limit_error"}  # fmt: skip
_ANTHROPIC_TYPES = {400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
                    404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error",
                    504: "timeout_error"}  # fmt: skip

_MODEL = {
    "object": "model",
    "created": 0,
    "owned_by": "farebox",
    "type": "model",
    "created_at": "1970-01-01T00:00:00Z",
}

MODEL_NOT_FOUND = Refusal(
    "model_not_found", 404, "There is no such model", "Ask /v1/models for those that you can call."
)
MODEL_WITHOUT_PRICE = Refusal(
    "model_without_price", 503, "This model cannot be billed now", "It has no price yet. Nothing was charged."
)
TOO_LARGE_FOR_LIMIT = Refusal(
    "request_larger_than_limit", 429, "The request is larger than a limit",
    "Its prompt and the longest answer it asks for are more tokens than the limit allows at once. Ask for a shorter answer.",
    [("x-should-retry", "false")],
)  # fmt: skip
NOT_RESERVED = Refusal(
    "metering_unavailable",
    503,
    "Metering is unavailable",
    "The rest of the answer could not be reserved; what came is charged.",
)


GATEWAY_STOPPED = Refusal(
    "gateway_stopped",
    503,
    "The gateway was stopped",
    "The answer took longer than a stop waits for. What came is charged as the route says; ask again for the rest.",
)


def bad_model_request(detail: str) -> Refusal:
    """400 for a body that cannot be read."""
    return Refusal("invalid_model_request", 400, "The request cannot be read", detail)


def error_body(dialect: str, refusal: Refusal, request_id: str) -> bytes:
    """The refusal as the dialect's SDKs expect it."""
    text = f"{refusal.title}. {refusal.detail}"
    if dialect == Dialect.MESSAGES:
        kind = _ANTHROPIC_TYPES.get(refusal.status, "api_error")
        return orjson.dumps(
            {
                "type": "error",
                "error": {"type": kind, "message": text, "code": refusal.code},
                "request_id": request_id,
            }
        )
    kind = _OPENAI_TYPES.get(refusal.status, "api_error")
    return orjson.dumps(
        {
            "error": {"message": text, "type": kind, "param": None, "code": refusal.code},
            "request_id": request_id,
        }
    )


def error_frame(dialect: str, refusal: Refusal, request_id: str) -> bytes:
    """The same in the middle of a stream."""
    name = b"event: error\n" if dialect == Dialect.MESSAGES else b""
    return name + b"data: " + error_body(dialect, refusal, request_id) + b"\n\n"


async def send_model_refusal(
    send: Send, refusal: Refusal, *, dialect: str, request_id: str, method: str, extra: Headers
) -> None:
    """Answer with an error of the dialect; of a limit, with what is left by the names that its SDKs read."""
    body = error_body(dialect, refusal, request_id)
    told = {name.lower() for name, _ in extra}
    left = [h for h in sdk_headers(dialect, refusal.windows, refusal.at_us) if h[0] not in told]
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Request-Id", request_id),
        ("request-id", request_id),
        *refusal.headers,
        *_retry_headers(refusal),
        *left,
        *extra,
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": encoded(headers)})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


async def send_models(send: Send, models: Mapping[str, ModelEntry], path: str, *, request_id: str) -> None:
    """The models that can be called, or the one that the path names, in a shape that both SDKs read."""
    wanted = path.rsplit("/", 1)[-1]
    rows = [_MODEL | {"id": name, "display_name": name} for name in models]
    one = next((row for row in rows if row["id"] == unquote(wanted)), None)
    if one is None and wanted != "models":
        await send_model_refusal(
            send, MODEL_NOT_FOUND, dialect=Dialect.MODELS, request_id=request_id, method="GET", extra=[]
        )
        return
    names = [*models, None]
    ends = {"first_id": names[0], "last_id": names[-2] if models else None, "has_more": False}
    body = orjson.dumps(one or {"object": "list", "data": rows, **ends})
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("X-Request-Id", request_id),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": encoded(headers)})
    await send({"type": "http.response.body", "body": body})


def _retry_headers(refusal: Refusal) -> Headers:
    """When to come back in milliseconds, as the SDKs ask first."""
    waits = [value for name, value in refusal.headers if name == "Retry-After"]
    return [("retry-after-ms", str(int(seconds) * 1000)) for seconds in waits[:1]]


_OF_PROMPT_AND_ANSWER = {"input_tokens": "input-tokens", "output_tokens": "output-tokens"}


def sdk_headers(dialect: str, windows: Sequence[WindowState], at_us: int) -> Headers:
    """What is left, by the names that the dialect's SDKs know: the nearest window of calls and the nearest of tokens; for
    Anthropic's also those of prompts and of answers by themselves."""
    found: dict[str, list[WindowState]] = {}
    for window in windows:
        what = counted_by(window)
        if what == "calls":
            found.setdefault("requests", []).append(window)
        elif what.endswith("tokens"):
            found.setdefault("tokens", []).append(window)
            if dialect == Dialect.MESSAGES and what in _OF_PROMPT_AND_ANSWER:
                found.setdefault(_OF_PROMPT_AND_ANSWER[what], []).append(window)
    headers: Headers = []
    for kind, of_kind in found.items():
        headers += _named(dialect, kind, nearest(of_kind), at_us)
    return headers


def _named(dialect: str, kind: str, window: WindowState, at_us: int) -> Headers:
    reset_s = min(window.reset_s, window.seconds)
    if dialect == Dialect.MESSAGES:
        reset = datetime.fromtimestamp(at_us // 1_000_000, UTC) + timedelta(seconds=reset_s)
        name = f"anthropic-ratelimit-{kind}"
        return [
            (f"{name}-limit", str(window.limit)),
            (f"{name}-remaining", str(window.remaining)),
            (f"{name}-reset", reset.strftime("%Y-%m-%dT%H:%M:%SZ")),
        ]
    return [
        (f"x-ratelimit-limit-{kind}", str(window.limit)),
        (f"x-ratelimit-remaining-{kind}", str(window.remaining)),
        (f"x-ratelimit-reset-{kind}", duration(reset_s)),
    ]


def duration(seconds: int) -> str:
    """As OpenAI writes it: `1s`, `6m0s`, `1h0m0s`."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"
