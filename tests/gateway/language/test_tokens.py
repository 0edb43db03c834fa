"""Usage in the shapes of the real APIs (examples of their references), and in shapes that nobody should send."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.language.tokens import Tokens, read_usage

CHAT = {
    "prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 6},
    "completion_tokens_details": {"reasoning_tokens": 192, "audio_tokens": 8, "accepted_prediction_tokens": 0},
}  # fmt: skip
RESPONSES = {
    "input_tokens": 328, "input_tokens_details": {"cached_tokens": 28}, "output_tokens": 52,
    "output_tokens_details": {"reasoning_tokens": 50}, "total_tokens": 380,
}  # fmt: skip
MESSAGES = {
    "input_tokens": 21, "cache_creation_input_tokens": 188_086, "cache_read_input_tokens": 12, "output_tokens": 393,
}  # fmt: skip
CACHED_LONG = {
    "input_tokens": 2048, "cache_read_input_tokens": 1800, "cache_creation_input_tokens": 556, "output_tokens": 503,
    "cache_creation": {"ephemeral_5m_input_tokens": 456, "ephemeral_1h_input_tokens": 100},
}  # fmt: skip
DRAWN = {
    "input_tokens": 50, "output_tokens": 4180, "total_tokens": 4230,
    "input_tokens_details": {"image_tokens": 40, "text_tokens": 10},
    "output_tokens_details": {"image_tokens": 4160, "text_tokens": 20},
}  # fmt: skip


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (CHAT, Tokens(input=80, cached_input=1920, audio_input=6, output=100, reasoning=192, audio_output=8)),
        (RESPONSES, Tokens(input=300, cached_input=28, output=2, reasoning=50)),
        (CACHED_LONG, Tokens(input=2048, cache_write=456, cache_write_1h=100, cached_input=1800, output=503)),
        (DRAWN, Tokens(input=10, image_input=40, output=20, image_output=4160)),
        (MESSAGES, Tokens(input=21, cache_write=188_086, cached_input=12, output=393)),
        ({"prompt_tokens": 8, "total_tokens": 8}, Tokens(input=8)),
        ({"input_tokens": 7, "output_tokens": 3}, Tokens(input=7, output=3)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Tokens()),
        ({"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": None}, Tokens(input=5, output=2)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 9, "audio_tokens": 9}}, Tokens(cached_input=5)),
    ],
)  # fmt: skip
def test_usage_of_the_real_shapes(usage: dict[str, Any], expected: Tokens) -> None:
    assert read_usage(usage) == expected


@pytest.mark.parametrize(
    "usage",
    [None, [], "12", {}, {"prompt_tokens": -1}, {"prompt_tokens": True}, {"input_tokens": 1.5}, {"prompt_tokens": 10**12}],
)  # fmt: skip
def test_what_holds_no_count_is_no_usage(usage: object) -> None:
    assert read_usage(usage) is None


def test_a_later_frame_is_cumulative() -> None:
    """Anthropic's `message_start` tells the input, each `message_delta` the output up to now."""
    start = read_usage({"input_tokens": 25, "cache_read_input_tokens": 4, "output_tokens": 1})
    assert read_usage({"output_tokens": 15}, start) == Tokens(input=25, cached_input=4, output=15)
    assert read_usage({"output_tokens": 0}, start) == Tokens(input=25, cached_input=4, output=0)
    assert read_usage(None, start) == start


def test_a_later_frame_that_only_sums_up_keeps_the_hour_apart() -> None:
    start = read_usage(CACHED_LONG)
    told = {"cache_creation_input_tokens": 556, "output_tokens": 600}
    assert read_usage(told, start) == Tokens(2048, 1800, cache_write=456, cache_write_1h=100, output=600)


COUNTS = st.integers(0, 10**6)


@given(COUNTS, COUNTS, COUNTS)
def test_writes_to_a_cache_add_up_to_what_was_reported(total: int, five: int, hour: int) -> None:
    parts = {"ephemeral_5m_input_tokens": five, "ephemeral_1h_input_tokens": hour}
    tokens = read_usage({"input_tokens": 1, "cache_creation_input_tokens": total, "cache_creation": parts})
    assert tokens is not None
    assert tokens.cache_write + tokens.cache_write_1h == total
    assert 0 <= tokens.cache_write_1h <= hour
    alone = read_usage({"input_tokens": 1, "cache_creation": parts}, Tokens())
    assert alone == Tokens(1, cache_write=five, cache_write_1h=hour)


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_kinds_add_up_to_what_was_reported(
    prompt: int, completion: int, cached: int, audio: int, reasoning: int, audio_out: int
) -> None:
    tokens = read_usage(
        {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": audio},
            "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": audio_out},
        }
    )
    assert tokens is not None
    assert (tokens.all_input, tokens.all_output) == (prompt, completion)
    assert min(tokens.as_properties().values(), default=1) > 0
