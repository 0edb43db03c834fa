"""Server-sent events as they pass: whole frames, what they say of usage, and how much text they deliver.

Bytes are passed on as they came; a frame is looked into only where it may matter (HTML standard, section 9.2).
"""

from dataclasses import dataclass
from typing import Any

import orjson

from gateway.language.tokens import Tokens, read_usage

LONGEST_FRAME = 4 * 1024 * 1024  # an image in a frame is about so large; more is passed on unread
_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_DONE = b"[DONE]"
_FAILURES = ("error", "response.failed")
_LAST_TYPES = ("message_stop", "response.completed", "response.incomplete", "response.failed")


@dataclass(frozen=True, slots=True)
class Frame:
    """One event. `value` is its JSON, None where it holds none; `is_last`: the protocol's own end."""

    raw: bytes
    value: dict[str, Any] | None
    is_last: bool
    text: bytes = b""  # of the model's output that it delivers (UTF-8): no fewer bytes than its tokens

    @property
    def is_usage_only(self) -> bool:
        """A chunk of chat completions that only tells the usage (`stream_options.include_usage`)."""
        return (
            self.value is not None and self.value.get("choices") == [] and self.value.get("usage") is not None
        )

    @property
    def without_null_usage(self) -> bytes:
        """As it would have come had nobody asked for the usage. Within a JSON text these bytes cannot stand: its quotes are
        escaped."""
        return self.raw.replace(b',"usage":null', b"").replace(b', "usage": null', b"")


class EventStream:
    """Cuts chunks into frames and keeps count. One a call."""

    def __init__(self) -> None:
        self._rest = b""
        self.tokens: Tokens | None = None
        self.text_bytes = 0
        self.is_counted = (
            False  # the tokens are of all that came until now, not only what a stream begins with
        )
        self.pictures = 0  # that were drawn to their end
        self.has_ended = False
        self.has_failed = False  # the upstream said so itself

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that are whole now; what is left waits for its end."""
        self._rest += chunk
        frames = []
        while (end := _end_of_frame(self._rest)) is not None:
            frames.append(self._read(self._rest[:end]))
            self._rest = self._rest[end:]
        if len(self._rest) > LONGEST_FRAME:
            frames.append(Frame(self._rest, None, is_last=False))
            self._rest = b""
        return frames

    def finish(self) -> list[Frame]:
        """What came after the last whole frame: some servers leave out the last empty line."""
        rest, self._rest = self._rest, b""
        return [self._read(rest)] if rest.strip() else []

    def _read(self, raw: bytes) -> Frame:
        data = b"\n".join(
            line[5:].removeprefix(b" ") for line in raw.splitlines() if line.startswith(b"data:")
        )
        value = _json(data)
        is_last = data.strip() == _DONE if value is None else value.get("type") in _LAST_TYPES
        frame = Frame(raw, value, is_last, _delivered(value) if value is not None else b"")
        if value is not None:
            self._take(value)
            self.has_failed = self.has_failed or bool(value.get("error")) or value.get("type") in _FAILURES
            self.text_bytes += len(frame.text)
            self.pictures += value.get("type") == "image_generation.completed"
        self.has_ended = self.has_ended or frame.is_last
        return frame

    def _take(self, value: dict[str, Any]) -> None:
        """Usage stands in the frame, in its `message` (message_start) or in its `response` (response.completed)."""
        for holder in (value, value.get("message"), value.get("response")):
            if isinstance(holder, dict) and holder.get("usage") is not None:
                self.tokens = read_usage(holder["usage"], self.tokens)
                self.is_counted = self.tokens is not None and holder is not value.get("message")


def _end_of_frame(data: bytes) -> int | None:
    ends = [at + len(end) for end in _ENDS if (at := data.find(end)) >= 0]
    return min(ends) if ends else None


def _json(data: bytes) -> dict[str, Any] | None:
    if not data.startswith(b"{"):
        return None
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def text_of_answer(value: dict[str, Any]) -> bytes:
    """The model's output in an answer that came whole; pictures and vectors are none."""
    found = b""
    choices = value.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            found += _delivered({"choices": [choice | {"delta": choice.get("message")}]})
    found += b"".join(_delivered({"delta": part}) for part in _dicts(value.get("content")))
    for item in _dicts(value.get("output")):
        found += b"".join(_delivered({"delta": part}) for part in _dicts(item.get("content")))
    return found


def _dicts(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _delivered(value: dict[str, Any]) -> bytes:
    """Text of chat deltas, completions, Anthropic's deltas and the deltas of responses."""
    texts: list[object] = []
    choices = value.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            texts += [choice.get("text"), *_delta_texts(choice.get("delta"))]
    delta = value.get("delta")
    texts += _delta_texts(delta) if isinstance(delta, dict) else [delta]
    return b"".join(text.encode(errors="replace") for text in texts if isinstance(text, str))


def _delta_texts(delta: object) -> list[object]:
    if not isinstance(delta, dict):
        return []
    texts = [
        delta.get(name)
        for name in ("content", "reasoning_content", "refusal", "text", "thinking", "partial_json")
    ]
    tools = delta.get("tool_calls")
    for tool in tools if isinstance(tools, list) else ():
        function = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(function, dict):
            texts += [function.get("name"), function.get("arguments")]
    return texts
