"""The text of a prompt, for counting its tokens: what the model reads, in any of the dialects."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

# Marks around each message, and before the answer (OpenAI's cookbook, "How to count tokens with tiktoken").
TOKENS_A_MESSAGE = 3
TOKENS_OF_THE_ANSWER = 3
_TEXTS = ("system", "instructions", "prompt", "suffix", "input", "messages")
_DECLARED = ("tools", "functions", "response_format", "text")
_NOT_READ = frozenset(
    {"type", "id", "call_id", "tool_call_id", "tool_use_id", "media_type", "detail", "cache_control"}
)
_PICTURES = frozenset({"image_url", "source", "input_audio", "file", "image"})


@dataclass(frozen=True, slots=True)
class Prompt:
    """`tokens` are those that need no counting: ready ones, and the marks of messages."""

    texts: list[str]
    tokens: int


def prompt_of(body: dict[str, Any]) -> Prompt:
    """What of a request the model reads. Pictures and sounds are counted apart."""
    texts: list[str] = []
    tokens = 0
    for name in _TEXTS:
        for value in _read(body.get(name)):
            if isinstance(value, str):
                texts.append(value)
            else:
                tokens += value
    texts += [
        orjson.dumps(body[name]).decode() for name in _DECLARED if isinstance(body.get(name), list | dict)
    ]
    return Prompt(texts, tokens + (TOKENS_OF_THE_ANSWER if "messages" in body else 0))


def _read(value: object) -> Iterator[str | int]:
    """Texts, and numbers of tokens. No recursion: bodies may be nested as deeply as they are allowed to be."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            if "role" in one:
                yield TOKENS_A_MESSAGE
            waiting += [
                inner for name, inner in one.items() if name not in _NOT_READ and name not in _PICTURES
            ]
        elif isinstance(one, list):
            if one and all(type(item) is int for item in one):
                yield len(one)  # a text that is tokens already
            else:
                waiting += one
