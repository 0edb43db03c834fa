"""The first request of a key: its body is fingerprinted and its answer written down while both pass."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from django.conf import settings

from gateway.headers import RawHeaders
from gateway.proxy import Receive, Send
from gateway.replays.place import Fingerprint
from gateway.replays.shelf import Kept

DRAIN_SECONDS = 30.0  # how long an answer is read on for a client that left
BUFFERED_BYTES = 64 * 1024 * 1024  # of answers that are being written down, in one worker
AGAIN = frozenset({408, 409, 425, 429})  # statuses that ask for another try
# Ours, made anew for each request, or of one client alone.
_NOT_KEPT = frozenset(
    {b"x-request-id", b"request-id", b"set-cookie", b"date", b"ratelimit", b"ratelimit-policy"}
)
_NOT_KEPT_PREFIXES = (b"x-ratelimit-", b"anthropic-ratelimit-", b"farebox-", b"idempotent-")

End = Callable[[Kept | None], Awaitable[None]]


class Room:
    """Bytes of answers that one worker holds until their end."""

    def __init__(self, most: int = BUFFERED_BYTES) -> None:
        self._left = most

    def take(self, size: int) -> bool:
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        self._left += size


class Keeper:
    """Stands between a call and its client. `end` is awaited once, before the answer's last byte leaves: with what can be
    given again, or None."""

    def __init__(
        self, receive: Receive, send: Send, *, fingerprint: Fingerprint, room: Room, end: End
    ) -> None:
        self._receive, self._send, self._end = receive, send, end
        self._fingerprint, self._room = fingerprint, room
        self._start: dict[str, Any] | None = None
        self._body: bytearray | None = bytearray()
        self._event: UUID | None = None
        self._is_gone = False
        self._has_ended = False
        self._drain_end: asyncio.TimerHandle | None = None

    async def receive(self) -> dict[str, Any]:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._is_gone = True
        else:
            self._fingerprint.feed(message.get("body", b""), is_last=not message.get("more_body", False))
        return message

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        else:
            self._write_down(message.get("body", b""))
            if not message.get("more_body", False):
                await self.end()
        if not self._is_gone:
            await self._send(message)

    def settled(self, event: UUID, *, reason: str, is_recorded: bool, is_whole: bool = True) -> None:
        """How the call was settled: only an answer of the upstream that is in the ledger is given again."""
        if is_recorded and is_whole and reason in ("", "client_error"):
            self._event = event

    def when_left(self, act: Callable[[], object]) -> Callable[[], object]:
        """What to do when the client leaves: the answer is read on for its retry, for a bounded time."""

        def wait() -> None:
            if not self._has_ended:
                self._drain_end = asyncio.get_running_loop().call_later(DRAIN_SECONDS, act)

        return wait

    async def end(self) -> None:
        """The answer is whole, or there will be none. Only the first call counts."""
        if self._has_ended:
            return
        self._has_ended = True
        if self._drain_end is not None:
            self._drain_end.cancel()
        kept = self._kept()
        if self._body is not None:
            self._room.give_back(len(self._body))
        self._body = None
        await self._end(kept)

    def give_up(self) -> None:
        """What comes now is no answer of the upstream."""
        self._event = None

    def _write_down(self, piece: bytes) -> None:
        if self._body is None:
            return
        if len(self._body) + len(piece) > settings.REPLAY_ANSWER_BYTES or not self._room.take(len(piece)):
            self._room.give_back(len(self._body))
            self._body = None
        else:
            self._body += piece

    def _kept(self) -> Kept | None:
        if self._start is None or self._body is None or self._event is None or not self._fingerprint.is_whole:
            return None
        status = self._start["status"]
        if status >= 500 or status in AGAIN:
            return None
        headers = replayable(self._start["headers"])
        return Kept(self._fingerprint.hex(), str(self._event), status, headers, bytes(self._body))


def replayable(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """The headers of an answer that are true of it whenever it is given."""
    return [
        (name, value)
        for name, value in headers
        if name not in _NOT_KEPT and not name.startswith(_NOT_KEPT_PREFIXES)
    ]
