"""Frames of a stream on their way: each sent when its tokens are reserved, the last one held back."""

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum

from gateway.language.event_stream import EventStream, Frame
from gateway.proxy import Answer, Body, Send, UpstreamCut, UpstreamTimeout
from metering.answers import Refusal
from plans.models import OnLeaving

DRAIN_SECONDS = 30.0  # how long an answer is read on for a client that left
KEPT_TEXT = (
    64 * 1024
)  # bytes of an answer's text, from which its tokens are estimated where nobody tells them
LARGEST_ANSWER = 256 * 1024 * 1024
Reserve = Callable[[int, int], Awaitable[Refusal | None]]


class Left(Enum):
    """How a stream ended. The value is the outcome in the ledger, `reason` why it is not billed ('' is billed)."""

    WHOLE = "whole"
    DRAINED = "client_gone_drained"
    DELIVERED = "client_gone_delivered"
    FREE = "client_gone_free"
    REFUSED = "limit_reached"
    FAILED = "upstream_failed"
    CUT = "upstream_cut"
    SLOW = "upstream_slow"
    EXPIRED = "expired"
    STOPPED = "gateway_stopped"

    @property
    def reason(self) -> str:
        return _REASONS.get(self, "")


_REASONS = {
    Left.FREE: "client_gone",
    Left.FAILED: "upstream_error",
    Left.CUT: "upstream_error",
    Left.SLOW: "upstream_timeout",
    Left.EXPIRED: "expired",
}


class FramePasser:
    """Passes one stream on. `reserve(text bytes, frames with text)` says why more may not be sent."""

    def __init__(
        self, send: Send, body: Body, reserve: Reserve, *, hides_usage: bool, on_leaving: str, is_kept: bool = False
    ) -> None:  # fmt: skip
        self._send, self._body, self._reserve = send, body, reserve
        self._hides_usage, self._on_leaving = hides_usage, on_leaving
        self._is_kept = is_kept  # for a retry: also what nobody receives now
        self.stream = EventStream()
        self.refusal: Refusal | None = None
        self.bytes_out = 0
        self.text_bytes = 0
        self.text_frames = 0
        self.text = bytearray()  # the first of it
        self._is_drained = False
        self._drain_end: asyncio.TimerHandle | None = None
        self._held: list[bytes] = []

    async def run(self, answer: Answer, *, still_held: Callable[[], bool]) -> Left:
        """Read the upstream to its end, or to what ends it for us: also our own shutdown, when its time is up."""
        self._body.on_leaving(lambda: self._when_left(answer))
        try:
            return await self._pass_on(answer, still_held)
        except asyncio.CancelledError:
            return self._gone() if self._body.is_gone else Left.STOPPED
        finally:
            if self._drain_end is not None:
                self._drain_end.cancel()

    async def _pass_on(self, answer: Answer, still_held: Callable[[], bool]) -> Left:
        try:
            async for chunk in answer.chunks():
                if not still_held():
                    return Left.EXPIRED
                left = await self._take(self.stream.feed(chunk))
                if left is not None:
                    return left
                if self._body.is_gone and self._on_leaving != OnLeaving.DRAIN:
                    return self._gone()
        except (UpstreamCut, UpstreamTimeout) as error:
            if self._body.is_gone and (self._on_leaving != OnLeaving.DRAIN or self._is_drained):
                return self._gone()  # it was us who closed it
            return Left.SLOW if isinstance(error, UpstreamTimeout) else Left.CUT
        left = await self._take(self.stream.finish())
        if left is not None:
            return left
        if self.stream.has_failed:
            return Left.FAILED
        if self._body.is_gone:
            return Left.DRAINED if self._on_leaving == OnLeaving.DRAIN else self._gone()
        return Left.WHOLE

    def _when_left(self, answer: Answer) -> None:
        """At once the answer ends, or it is read on for a bounded time."""
        if self._on_leaving != OnLeaving.DRAIN:
            answer.close()
            return

        def stop() -> None:
            self._is_drained = True
            answer.close()

        self._drain_end = asyncio.get_running_loop().call_later(DRAIN_SECONDS, stop)

    async def finish(self) -> None:
        """Let the last frame go."""
        await self._send({"type": "http.response.body", "body": b"".join(self._held), "more_body": False})

    async def _take(self, frames: list[Frame]) -> Left | None:
        for frame in frames:
            if self._hides_usage and frame.is_usage_only:
                continue
            size = len(frame.text)
            self.refusal = await self._reserve(self.text_bytes + size, self.text_frames + bool(size))
            if self.refusal is not None:
                return Left.REFUSED
            if self._body.is_gone and self._on_leaving != OnLeaving.DRAIN:
                return self._gone()
            self.text_bytes, self.text_frames = self.text_bytes + size, self.text_frames + bool(size)
            if size and len(self.text) < KEPT_TEXT:
                self.text += frame.text
            raw = frame.without_null_usage if self._hides_usage else frame.raw
            self.bytes_out += len(raw)
            if self._held or frame.is_last:
                self._held.append(raw)
            elif self._is_kept or not self._body.is_gone:
                await self._send({"type": "http.response.body", "body": raw, "more_body": True})
        return None

    def _gone(self) -> Left:
        return Left.FREE if self._on_leaving == OnLeaving.FREE else Left.DELIVERED


async def read_whole(answer: Answer) -> bytes:
    """All of an answer's body. Raises UpstreamCut (also for one without end) or UpstreamTimeout."""
    pieces, size = [], 0
    async for chunk in answer.chunks():
        size += len(chunk)
        if size > LARGEST_ANSWER:
            raise UpstreamCut
        pieces.append(chunk)
    return b"".join(pieces)
