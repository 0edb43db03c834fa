"""An asyncio Redis client for the request path: one connection, all commands of one turn of the loop in one write.

Under load dozens of calls ask in the same turn; one system call carries them all, and replies are matched by order.
A command that is not answered in time breaks the connection, because nobody could tell later replies apart; commands
that were on their way may or may not have run, which is why nothing here repeats any.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable
from typing import Any, Protocol, cast

import hiredis
from redis.asyncio.connection import parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

Reply = Any
Argument = bytes | str | int


class NotSent(RedisConnectionError):
    """The command surely did not run: it may be sent again."""


class Waiter(Protocol):
    """Who is told of a command's end: a future, or whatever answers to the same names."""

    def done(self) -> bool:
        """Whether nobody waits any more."""

    def set_result(self, reply: Reply, /) -> None: ...

    def set_exception(self, error: RedisError, /) -> None: ...


class LoopPipeline:
    """`await pipeline.execute("EVALSHA", sha, ...)`. Connects on first use and again after a break. Not thread-safe."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self._options = parse_url(url)
        self._timeout = timeout
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[_Connection] | None = None

    async def execute(self, *command: Argument) -> Reply:
        """The reply to one command. Raises RedisError: ConnectionError, TimeoutError, or what Redis answered."""
        return await self.send(pack(command))

    def send(self, packed: bytes) -> Awaitable[Reply]:
        """The same for a command that is packed already; it leaves with the others of this turn, awaited or not."""
        connection = self._connection
        if connection is None or connection.broken:
            return self._send_when_connected(packed)
        return connection.send(packed)

    def post(self, packed: bytes, waiter: Waiter) -> None:
        """Send a packed command whose end is told to `waiter`, whatever becomes of the caller: no task is needed to see it
        through. Where there is no connection `waiter` is told so at once; nothing left then."""
        connection = self._connection
        if connection is None or connection.broken:
            waiter.set_exception(NotSent("not connected"))
        else:
            connection.post(packed, waiter)

    async def _send_when_connected(self, packed: bytes) -> Reply:
        return await (await self._connect()).send(packed)

    async def aclose(self) -> None:
        """Close the connection; commands under way fail."""
        if self._connection is not None:
            self._connection.fail(RedisConnectionError("closed"))
            self._connection = None

    async def _connect(self) -> "_Connection":
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._open())
            self._connecting.add_done_callback(self._opened)
        return await asyncio.shield(self._connecting)

    def _opened(self, task: "asyncio.Task[_Connection]") -> None:
        self._connecting = None
        if not task.cancelled() and task.exception() is None:
            self._connection = task.result()

    async def _open(self) -> "_Connection":
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._transport()
                await self._greet(connection)
        except TimeoutError as error:
            raise RedisTimeoutError("no connection in time") from error
        except OSError as error:
            raise RedisConnectionError(str(error)) from error
        return connection

    async def _greet(self, connection: "_Connection") -> None:
        try:
            for command in self._greeting():
                await connection.send(pack(command))
        except BaseException:
            connection.fail(RedisConnectionError("connection refused"))
            raise

    async def _transport(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = dict(self._options)

        def protocol() -> _Connection:
            return _Connection(loop, self._timeout)

        if "path" in options:
            return (await loop.create_unix_connection(protocol, options["path"]))[1]
        secure = ssl.create_default_context() if "connection_class" in options else None
        host, port = options.get("host", "localhost"), options.get("port", 6379)
        return (await loop.create_connection(protocol, host, port, ssl=secure))[1]

    def _greeting(self) -> list[tuple[Argument, ...]]:
        options: dict[str, Any] = dict(self._options)
        greeting: list[tuple[Argument, ...]] = []
        if options.get("password"):
            user = (options["username"],) if options.get("username") else ()
            greeting.append(("AUTH", *user, options["password"]))
        if options.get("db"):
            greeting.append(("SELECT", int(options["db"])))
        return greeting


class _Connection(asyncio.Protocol):
    """One socket: what waits to be written, and who waits for which reply."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        self.broken = False
        self._loop = loop
        self._timeout = timeout
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[bytes] = []
        self._waiting: deque[Waiter] = deque()
        self._answered = 0
        self._deadlines: deque[tuple[float, int]] = (
            deque()
        )  # by when how many replies must have come, a turn each
        self._watch: asyncio.TimerHandle | None = None

    def send(self, packed: bytes) -> "asyncio.Future[Reply]":
        future: asyncio.Future[Reply] = self._loop.create_future()
        self.post(packed, future)
        return future

    def post(self, packed: bytes, waiter: Waiter) -> None:
        if self.broken:
            waiter.set_exception(NotSent("connection lost"))
            return
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(packed)
        self._waiting.append(waiter)

    def fail(self, error: RedisError) -> None:
        """Break the connection: everyone who waits is told."""
        self.broken = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._outgoing.clear()
        if self._transport is not None:
            self._transport.abort()
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without inheriting from it

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            waiter = self._waiting.popleft()
            self._answered += 1
            if waiter.done():  # its caller was cancelled
                continue
            if isinstance(reply, hiredis.ReplyError):
                waiter.set_exception(reply_error(str(reply)))
            else:
                waiter.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(RedisConnectionError("connection lost"))

    def _flush(self) -> None:
        if self._transport is None or not self._outgoing:
            return
        self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()
        deadline, deadlines = self._loop.time() + self._timeout, self._deadlines
        while deadlines and deadlines[0][1] <= self._answered:
            deadlines.popleft()
        deadlines.append((deadline, self._answered + len(self._waiting)))
        if self._watch is None:
            self._watch = self._loop.call_at(deadline, self._look)

    def _look(self) -> None:
        """One timer instead of one per command: set for the deadline of the turn that has waited longest."""
        self._watch = None
        while self._deadlines and self._deadlines[0][1] <= self._answered:
            self._deadlines.popleft()
        if not self._deadlines:
            return
        deadline = self._deadlines[0][0]
        if deadline <= self._loop.time():
            self.fail(RedisTimeoutError("no reply in time"))
        else:
            self._watch = self._loop.call_at(deadline, self._look)


def pack(command: tuple[Argument, ...]) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub knows one-element tuples only
    return packed


def reply_error(message: str) -> RedisError:
    if message.startswith("NOSCRIPT"):
        return NoScriptError(message)
    if message.startswith("OOM"):
        return OutOfMemoryError(message)
    return ResponseError(message)
