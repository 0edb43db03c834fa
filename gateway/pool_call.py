"""One call to a pool: asked of one server, and of another where that failed and nothing can have happened twice.

Tried again are GET, HEAD and OPTIONS that got no answer or one of 502, 503, 504 without `Retry-After`, and any call whose
server could not even be connected to; never one whose answer or body was begun. All of it is one admission and one settle.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from gateway.headers import RawHeaders
from gateway.pools import Server, ServerPool
from gateway.proxy import Answer, Body, UpstreamTimeout, UpstreamUnavailable

MOST_RETRIES = 2
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_BAD = frozenset({502, 503, 504})
_SILENT = frozenset({"upstream_unavailable", "upstream_timeout"})


class Answered(Protocol):
    """What is looked at of an answer here."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> RawHeaders: ...
    def close(self) -> None: ...


T = TypeVar("T", bound=Answered)


class PoolCall:
    """The servers that were asked; the last of them holds the call until `end` or `release`."""

    __slots__ = ("_body", "_chosen_at", "_deadline", "_has_body", "_method", "_pool", "server", "tried")

    def __init__(
        self, pool: ServerPool, *, method: str, body: Body, has_body: bool, timeout_s: float
    ) -> None:
        """`timeout_s`: the route's; with the time to connect it bounds all attempts together, until the answer's head."""
        self._pool, self._method, self._body, self._has_body = pool, method, body, has_body
        self.tried: list[Server] = []
        self.server: Server | None = None
        self._chosen_at = time.monotonic()
        self._deadline = self._chosen_at + pool.servers[0].upstream.connect_timeout_s + timeout_s

    @property
    def attempts(self) -> int:
        return len(self.tried)

    async def ask(self, send: Callable[[Server], Awaitable[T]]) -> T:
        """The answer of the server that gave one. Raises what `send` raises: of the last server that was asked."""
        self._pool.budget.count(self._chosen_at)
        following = self._pool.choose()
        while following is not None:
            self._take(following)
            try:
                answer = await self._send(send, following)
            except UpstreamUnavailable as error:
                self._fail("no connection" if error.is_untouched else "no answer")
                following = self._following(is_untouched=error.is_untouched)
                if following is None:
                    raise
            except UpstreamTimeout:
                self._fail("no answer in time")
                raise  # the time of the route is used up
            except BaseException:
                self.release()
                raise
            else:
                following = self._following() if _is_bad(answer) else None
                if following is None:
                    return answer
                self._fail(f"answered {answer.status}")
                drop(answer)
        raise UpstreamUnavailable(is_untouched=True)  # unreachable: a pool has servers

    def end(self, status: int, reason: str) -> None:
        """The call ended with this status, billed ('') or not; tells what that says of its server."""
        if self.server is None:
            return
        state = self.server.state
        self.release()
        if reason in _SILENT or (reason == "upstream_error" and status < 500):
            state.fail("no complete answer", now=time.monotonic())
        elif status in _BAD and reason == "upstream_error":
            state.fail(f"answered {status}", now=time.monotonic())
        elif not reason or reason == "client_error":
            state.succeed(chosen_at=self._chosen_at)

    def accepted(self) -> None:
        """It was answered and goes on (a WebSocket): the server holds the call until `release`."""
        if self.server is not None:
            self.server.state.succeed(chosen_at=self._chosen_at)

    def release(self) -> None:
        """The server is asked no more for this call."""
        if self.server is not None:
            self.server.state.open -= 1
            self.server = None

    async def _send(self, send: Callable[[Server], Awaitable[T]], server: Server) -> T:
        if self.attempts == 1:  # its own time-outs are shorter
            return await send(server)
        try:
            async with asyncio.timeout(self._deadline - self._chosen_at):
                return await send(server)
        except TimeoutError as error:
            self.release()  # it had less than its time, which says nothing of it
            raise UpstreamTimeout from error

    def _take(self, server: Server) -> None:
        self.server, self._chosen_at = server, time.monotonic()
        self.tried.append(server)
        server.state.open += 1

    def _fail(self, error: str) -> None:
        if self.server is not None:
            self.server.state.fail(error, now=time.monotonic())
        self.release()

    def _following(self, *, is_untouched: bool = False) -> Server | None:
        """The server to ask next, if another one may be asked at all."""
        if not self._pool.retries or self.attempts > MOST_RETRIES or self._body.is_gone:
            return None
        if not is_untouched and self._method not in _SAFE:
            return None
        if self._has_body and self._body.content is None and self._body.is_begun:
            return None  # what was sent of it cannot be sent again
        now = time.monotonic()
        if now >= self._deadline:
            return None
        server = self._pool.choose(self.tried)
        if server is None or is_untouched:
            return server  # a call that nobody saw costs no server anything: no budget
        return server if self._pool.budget.take(now) else None


def drop(answer: Answered) -> None:
    """Nobody wants this answer; where it came whole its connection is used again."""
    if isinstance(answer, Answer):
        answer.whole_body()
    answer.close()


def _is_bad(answer: Answered) -> bool:
    """A failure that says nothing of when to come again."""
    return answer.status in _BAD and not any(name.lower() == b"retry-after" for name, _ in answer.headers)
