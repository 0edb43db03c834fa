"""A client that leaves while nothing comes: draining ends in time."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.language import passing
from gateway.language.passing import FramePasser, Left
from gateway.proxy import Body, UpstreamCut
from metering.answers import Refusal
from plans.models import OnLeaving

FRAME = b'data: {"choices":[{"delta":{"content":"word "}}]}\n\n'


class Silent:
    """An upstream that sends a frame and then nothing until it is closed."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def chunks(self) -> AsyncIterator[bytes]:
        yield FRAME
        await self.closed.wait()
        raise UpstreamCut

    def close(self) -> None:
        self.closed.set()


async def pass_on(policy: str) -> tuple[Left, FramePasser]:
    """Its client leaves a moment after the first frame."""
    leaving = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await leaving.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        leaving.set()

    async def reserve(text_bytes: int, frames: int) -> Refusal | None:
        return None

    body = Body(receive, 1_000)
    body.watch()
    passer = FramePasser(send, body, reserve, hides_usage=True, on_leaving=policy)
    left = await asyncio.wait_for(passer.run(Silent(), still_held=lambda: True), 5)  # type: ignore[arg-type]
    body.close()
    return left, passer


@pytest.mark.parametrize(
    ("policy", "left"),
    [(OnLeaving.DRAIN, Left.DELIVERED), (OnLeaving.DELIVERED, Left.DELIVERED), (OnLeaving.FREE, Left.FREE)],
)
def test_who_leaves_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch, policy: str, left: Left
) -> None:
    monkeypatch.setattr(passing, "DRAIN_SECONDS", 0.1)
    ended, passer = asyncio.run(pass_on(policy))
    assert (ended, passer.text_bytes, passer.text_frames) == (left, 5, 1)
