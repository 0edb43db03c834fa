"""The end of an answer stays here until its event is written."""

import asyncio
from typing import Any

import pytest

from gateway.proxy import HeldBack


def _run(
    chunks: list[bytes], *, length: int | None, is_event_stream: bool = False
) -> tuple[list[bytes], HeldBack]:
    """What left before `finish`, and the body with its end still in it."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def pass_all() -> HeldBack:
        held = HeldBack(send, length=length, is_event_stream=is_event_stream)
        for chunk in chunks:
            await held.pass_on(chunk)
        return held

    held = asyncio.run(pass_all())
    assert all(message["more_body"] for message in sent)
    return [message["body"] for message in sent], held


@pytest.mark.parametrize(
    ("chunks", "before"),
    [([b"abcd"], [b"abc"]), ([b"ab", b"cd"], [b"ab", b"c"]), ([b"abc", b"d"], [b"abc"])],
)
def test_last_byte_of_an_announced_length_is_kept(chunks: list[bytes], before: list[bytes]) -> None:
    sent, held = _run(chunks, length=4)

    assert (sent, held.last, held.size, held.is_short) == (before, b"d", 4, False)


def test_answer_shorter_than_announced_is_noticed() -> None:
    sent, held = _run([b"abc"], length=4)

    assert (sent, held.last, held.is_short) == ([b"abc"], b"", True)


def test_chunks_without_a_length_pass_whole_because_the_terminator_is_the_end() -> None:
    sent, held = _run([b"ab", b"cd"], length=None)

    assert (sent, held.last, held.is_short) == ([b"ab", b"cd"], b"", False)


def test_final_frame_of_an_event_stream_is_kept_and_goes_when_more_follows() -> None:
    sent, held = _run([b"data: 1\n\n", b"data: [DONE]\n\n"], length=None, is_event_stream=True)
    assert (sent, held.last) == ([b"data: 1\n\n"], b"data: [DONE]\n\n")

    sent, held = _run([b"data: [DONE]\n\n", b"\n"], length=None, is_event_stream=True)
    assert (sent, held.last) == ([b"data: [DONE]\n\n", b"\n"], b"")
