"""Tokens of a call, as upstreams report them: OpenAI's three shapes and Anthropic's, made one.

Sources: OpenAI's API reference (`usage` of chat completions, completions, embeddings, images and responses: cached and audio
tokens are parts of the prompt's, reasoning and audio tokens parts of the completion's) and Anthropic's (`usage` of messages:
`input_tokens` are those that no cache took part in).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from plans.token_prices import INPUT_KINDS, OUTPUT_KINDS

Json = Mapping[str, Any]
MOST = 10**9  # of one call; what is above it is no count of tokens


@dataclass(frozen=True, slots=True)
class Tokens:
    """Each token in exactly one kind: the kinds add up to all of them."""

    input: int = 0
    cached_input: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    audio_input: int = 0
    image_input: int = 0
    output: int = 0
    reasoning: int = 0
    audio_output: int = 0
    image_output: int = 0

    @property
    def all_input(self) -> int:
        return sum(getattr(self, kind) for kind in INPUT_KINDS)

    @property
    def all_output(self) -> int:
        return sum(getattr(self, kind) for kind in OUTPUT_KINDS)

    @property
    def total(self) -> int:
        return self.all_input + self.all_output

    def by_kind(self) -> dict[str, int]:
        """Counts by the name of their kind."""
        return {kind.name: getattr(self, kind.name) for kind in fields(self)}

    def as_properties(self) -> dict[str, int]:
        """The kinds that there are, for the ledger."""
        return {f"{kind}_tokens": count for kind, count in self.by_kind().items() if count}


def read_usage(usage: object, before: Tokens | None = None) -> Tokens | None:
    """The tokens in an answer's `usage`; None where it holds no count. `before`: what an earlier frame of the same stream
    said; a later frame is cumulative, so it replaces what it names and keeps the rest."""
    if not isinstance(usage, Mapping):
        return before
    if "prompt_tokens" in usage or "completion_tokens" in usage:
        return _parts(
            usage, "prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details"
        )
    if "cache_read_input_tokens" in usage or "cache_creation_input_tokens" in usage or before is not None:
        return _anthropic(usage, before)
    if "input_tokens_details" in usage or "output_tokens_details" in usage or "total_tokens" in usage:
        return _parts(usage, "input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details")
    return _anthropic(usage, before)


def _parts(usage: Json, input_name: str, output_name: str, of_input: str, of_output: str) -> Tokens | None:
    """OpenAI's shapes: kinds are parts of a sum, and never more than it."""
    given = [_count(usage, name) for name in (input_name, output_name)]
    if given == [None, None]:
        return None
    all_input, all_output = (n or 0 for n in given)
    cached, audio_in, image_in = _within(
        all_input, usage.get(of_input), "cached_tokens", "audio_tokens", "image_tokens"
    )
    reasoning, audio_out, image_out = _within(
        all_output, usage.get(of_output), "reasoning_tokens", "audio_tokens", "image_tokens"
    )
    return Tokens(
        input=all_input - cached - audio_in - image_in,
        cached_input=cached,
        audio_input=audio_in,
        image_input=image_in,
        output=all_output - reasoning - audio_out - image_out,
        reasoning=reasoning,
        audio_output=audio_out,
        image_output=image_out,
    )


def _anthropic(usage: Json, before: Tokens | None) -> Tokens | None:
    named = {
        "input": _count(usage, "input_tokens"),
        "cached_input": _count(usage, "cache_read_input_tokens"),
        **_cache_writes(usage, before),
        "output": _count(usage, "output_tokens"),
    }
    found = {kind: n for kind, n in named.items() if n is not None}
    if not found:
        return before
    return replace(before or Tokens(), **found)


def _cache_writes(usage: Json, before: Tokens | None) -> dict[str, int | None]:
    """What was written to a cache, those tokens apart that stay there for an hour. Frames that only sum up keep the part that
    an earlier one told."""
    parts = usage.get("cache_creation")
    known = parts if isinstance(parts, Mapping) else {}
    hour = _count(known, "ephemeral_1h_input_tokens")
    total = _count(usage, "cache_creation_input_tokens")
    if total is None:
        return {"cache_write": _count(known, "ephemeral_5m_input_tokens"), "cache_write_1h": hour}
    if hour is None:
        hour = before.cache_write_1h if before is not None else 0
    return {"cache_write": total - min(hour, total), "cache_write_1h": min(hour, total)}


def _within(most: int, details: object, *names: str) -> list[int]:
    """The named parts of a sum, cut where together they would be more than it."""
    found = []
    for name in names:
        part = min(most, (_count(details, name) or 0) if isinstance(details, Mapping) else 0)
        most -= part
        found.append(part)
    return found


def _count(values: Json, name: str) -> int | None:
    """A count of tokens; anything else is none."""
    value = values.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST else None
