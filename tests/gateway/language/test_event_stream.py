"""Frames are the same however the chunks are cut; usage and delivered text are read off them."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.language.event_stream import LONGEST_FRAME, EventStream, Frame
from gateway.language.tokens import Tokens


def frame(value: object) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


CHAT = b"".join(
    [
        frame({"choices": [{"delta": {"role": "assistant", "content": ""}}]}),
        b": a comment\n\n",
        frame({"choices": [{"delta": {"content": "Grüße"}}], "usage": None}),
        frame({"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]}),
        frame({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}),
        b"data: [DONE]\n\n",
    ]
)
MESSAGES = b"".join(
    [
        b'event: message_start\r\ndata: {"type":"message_start","message":{"usage":{"input_tokens":25,"output_tokens":1}}}\r\n\r\n',
        b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"Hello"}}\n\n',
        b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":15}}\n\n',
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    ]
)


def passed(data: bytes, cuts: list[int]) -> tuple[EventStream, list[Frame]]:
    stream, frames, start = EventStream(), [], 0
    for end in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        frames += stream.feed(data[start:end])
        start = end
    return stream, frames + stream.finish()


@given(st.lists(st.integers(0, 10_000), max_size=12))
def test_a_chat_is_read_whatever_the_chunks(cuts: list[int]) -> None:
    stream, frames = passed(CHAT, cuts)
    assert b"".join(f.raw for f in frames) == CHAT
    assert stream.tokens == Tokens(input=9, output=3)
    assert stream.text_bytes == len("Grüße".encode()) + len("f{}")
    assert [f.is_usage_only for f in frames] == [False, False, False, False, True, False]
    assert [f.is_last for f in frames] == [False] * 5 + [True]


@given(st.lists(st.integers(0, 10_000), max_size=12))
def test_anthropics_messages_are_read_whatever_the_chunks(cuts: list[int]) -> None:
    stream, frames = passed(MESSAGES, cuts)
    assert b"".join(f.raw for f in frames) == MESSAGES
    assert stream.tokens == Tokens(input=25, output=15)
    assert stream.text_bytes == len("Hello")
    assert frames[-1].is_last


def test_the_end_of_a_response_tells_its_usage() -> None:
    stream, frames = passed(
        frame({"type": "response.output_text.delta", "delta": "Hi"})
        + frame({"type": "response.completed", "response": {"usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}}}),
        [],
    )  # fmt: skip
    assert (stream.tokens, stream.text_bytes, frames[-1].is_last) == (Tokens(input=3, output=2), 2, True)


def test_a_stream_without_its_last_empty_line_is_whole() -> None:
    stream, frames = passed(b"data: [DONE]", [])
    assert stream.has_ended
    assert [f.raw for f in frames] == [b"data: [DONE]"]


def test_what_is_no_json_passes_unread() -> None:
    stream, frames = passed(b"data: {broken\n\nevent: ping\n\ndata: 7\n\n", [])
    assert [f.value for f in frames] == [None, None, None]
    assert (stream.tokens, stream.text_bytes, stream.has_ended) == (None, 0, False)


def test_a_frame_without_end_does_not_fill_the_memory() -> None:
    stream = EventStream()
    (given_up,) = stream.feed(b"x" * (LONGEST_FRAME + 1))
    assert len(given_up.raw) == LONGEST_FRAME + 1
    assert stream.finish() == []
