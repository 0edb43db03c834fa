"""What a caller asks of a language model, read off the request's body in any of the dialects."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from plans.models import Dialect
from plans.token_prices import NO_PICTURES, Pictures, is_picture_word

IMAGE_TOKENS = 2_000  # no image of today's APIs counts as more at its default detail
LARGEST_COUNT = 10_000_000
DEEPEST = 200  # levels of a body; it is written anew, which has a bound of its own
MOST_CHOICES = 128  # as OpenAI
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_STREAMED = (Dialect.CHAT_COMPLETIONS, Dialect.COMPLETIONS)  # tell their usage only when they are asked to
_TIERS = (
    None,
    "auto",
    "default",
    "flex",
    "standard_only",
)  # faster service costs more than a model's prices say
_WITHOUT_OUTPUT = (Dialect.EMBEDDINGS,)


class BadModelRequest(Exception):
    """The body cannot be read; the text says what is wrong, `param` where."""

    def __init__(self, detail: str, param: str | None = None) -> None:
        self.param = param
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to a model. `output_limit` is the most tokens that all its answers together may have, None where the caller
    set none; `wants_usage`: the usage chunk of a stream was asked for by the caller, too."""

    dialect: str
    model: str
    is_stream: bool
    output_limit: int | None
    choices: int
    wants_usage: bool
    text_bytes: int
    images: int
    body: dict[str, Any]

    def input_bound(self, bytes_per_token: int) -> int:
        """At least so many tokens are reserved for the prompt."""
        return -(-self.text_bytes // bytes_per_token) + self.images * IMAGE_TOKENS

    @property
    def pictures(self) -> Pictures:
        """What it wants to be drawn."""
        if self.dialect != Dialect.IMAGES:
            return NO_PICTURES
        return Pictures(self.choices, _named(self.body, "quality"), _named(self.body, "size"))

    def drawn(self, answer: dict[str, Any], count: int) -> Pictures:
        """So many pictures of its answer, never more than were asked for; what was asked for counts before what is told."""
        asked = self.pictures
        quality = asked.quality or _named(answer, "quality")
        return Pictures(min(asked.count, count), quality, asked.size or _named(answer, "size"))

    def for_upstream(self, name: str) -> bytes:
        """The body as the upstream gets it: always written anew, so that it reads the model and the limits that we read, where
        the caller's names one of them twice."""
        changes: dict[str, Any] = {"model": name}
        if self.is_stream and self.dialect in _STREAMED and not self.wants_usage:
            options = self.body.get("stream_options")
            changes["stream_options"] = (options if isinstance(options, dict) else {}) | {
                "include_usage": True
            }
        return orjson.dumps(self.body | changes)


def read_request(dialect: str, content: bytes) -> Asked:
    """The request in a body. Raises BadModelRequest."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise BadModelRequest("The body is not JSON.") from error
    if not isinstance(body, dict):
        raise BadModelRequest("The body is not a JSON object.")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadModelRequest("`model` is missing.", "model")
    stream = body.get("stream", False)
    if stream is not None and not isinstance(stream, bool):
        raise BadModelRequest("`stream` is true or false.", "stream")
    if body.get("service_tier") not in _TIERS:
        raise BadModelRequest("This `service_tier` is not sold.", "service_tier")
    if dialect == Dialect.IMAGES:
        _check_pictures(body)
    options = body.get("stream_options")
    images = list(_images(body))
    return Asked(
        dialect=dialect,
        model=model,
        is_stream=bool(stream),
        output_limit=_output_limit(dialect, body),
        choices=_choices(body),
        wants_usage=isinstance(options, dict) and options.get("include_usage") is True,
        text_bytes=max(0, len(content) - sum(map(len, images))),
        images=len(images),
        body=body,
    )


def _output_limit(dialect: str, body: dict[str, Any]) -> int | None:
    if dialect in _WITHOUT_OUTPUT:
        return 0
    limits = [limit for name in _LIMITS if (limit := _count(body, name)) is not None]
    return max(limits) * _choices(body) if limits else None


def _choices(body: dict[str, Any]) -> int:
    """How many answers are asked for: each may be as long as the limit."""
    return max(_count(body, "n", MOST_CHOICES) or 1, _count(body, "best_of", MOST_CHOICES) or 1)


def _count(body: dict[str, Any], name: str, most: int = LARGEST_COUNT) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise BadModelRequest(f"`{name}` is not a number from 0 to {most}.", name)
    return value


def _check_pictures(body: dict[str, Any]) -> None:
    """What is said of pictures goes into the ledger: anything else than a name could not be stored there."""
    for name in ("quality", "size"):
        value = body.get(name)
        if value is not None and not (isinstance(value, str) and is_picture_word(value)):
            raise BadModelRequest(f"`{name}` is not a name of at most 40 characters.", name)


def _named(body: dict[str, Any], name: str) -> str:
    """A quality or a size; '' where it is left to the model."""
    value = body.get(name)
    return value if isinstance(value, str) and value != "auto" and is_picture_word(value) else ""


def _images(body: object) -> Iterator[str]:
    """Pictures and sounds that stand in the body: data addresses of OpenAI, sources of Anthropic, input_audio."""
    waiting: list[tuple[object, int]] = [(body, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > DEEPEST:
            raise BadModelRequest("The body is nested too deeply.")
        if isinstance(value, dict):
            data = value.get("data")
            if isinstance(data, str) and ("media_type" in value or "format" in value):
                yield data
            waiting += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list):
            waiting += [(inner, depth + 1) for inner in value]
        elif isinstance(value, str) and value.startswith("data:") and ";base64," in value[:100]:
            yield value
