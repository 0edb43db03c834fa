"""Connections to upstreams, kept alive and shared by all requests of a worker."""

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from core.outbound import AddressInfo
from gateway.upstream.connection import Connection, Link
from gateway.upstream.errors import UpstreamUnavailable
from gateway.upstream.origin import Origin, Resolver

IDLE_SECONDS = 30.0
SWEEP_SECONDS = 5.0
CONNECTIONS = 16_000

SocketFactory = Callable[[AddressInfo], socket.socket]
L = TypeVar("L", bound=Link)


class Pool:
    """`take` what is idle, or `connect`; `give_back` what was used. One slow upstream leaves room for the others: it gets
    half of all connections. One per event loop."""

    def __init__(
        self, make_socket: SocketFactory, *, most: int = CONNECTIONS, tls: ssl.SSLContext | None = None,
        longest_answer_s: float = 0.0,
    ) -> None:  # fmt: skip
        self._make_socket, self._most, self._tls = make_socket, most, tls
        self.longest_answer_s = longest_answer_s  # from an answer's head to its end; 0: as long as it takes
        self._resolver = Resolver()
        self._idle: dict[Origin, deque[Connection]] = {}
        self._made: dict[Origin, int] = {}  # open or being opened
        self._total = 0
        self._open: set[Connection] = set()
        self._waiting: deque[tuple[Origin, asyncio.Future[None]]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False

    def take(self, origin: Origin) -> Connection | None:
        """A connection that is open and idle, the one used last; None where there is none."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if not connection.transport.is_closing():
                return connection
        return None

    async def connection(self, origin: Origin, *, connect_s: float, wait_s: float) -> Connection:
        """An idle or a new connection; waits for one where too many are open. Raises UpstreamUnavailable (untouched)."""
        try:
            async with asyncio.timeout(connect_s + wait_s):
                while not self._has_room(origin):
                    await self._wait(origin)
                    if (idle := self.take(origin)) is not None:
                        return idle
                return await self._connect(origin, connect_s)
        except TimeoutError as error:
            raise UpstreamUnavailable(is_untouched=True) from error

    async def open_own(self, origin: Origin, protocol: Callable[[], L], *, connect_s: float) -> L:
        """A connection that goes on with another protocol and is the caller's alone. Raises UpstreamUnavailable (untouched)."""
        try:
            async with asyncio.timeout(connect_s):
                return await self._open_one(origin, protocol)
        except (OSError, ValueError) as error:
            raise UpstreamUnavailable(is_untouched=True) from error

    def give_back(self, connection: Connection) -> None:
        """Its answer was taken: others may use it, where it can be used again."""
        if not connection.release():
            return
        if self._is_closed:
            connection.close()
            return
        self._keep(connection)

    def _keep(self, connection: Connection) -> None:
        origin = connection.origin
        connection.idle_since = time.monotonic()
        idle = self._idle.get(origin)
        if idle is None:
            idle = self._idle[origin] = deque()
        idle.append(connection)
        if self._waiting:
            self._wake(origin)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._close_idle)

    def put_back(self, connection: Connection) -> None:
        """It was not asked anything after all."""
        if connection.is_open and not self._is_closed:
            self._keep(connection)
        else:
            connection.close()

    async def close(self) -> None:
        """Close all connections."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self._open):
            connection.close()
        await asyncio.sleep(0)  # transports close in the loop's next turn

    @property
    def open_connections(self) -> int:
        return len(self._open)

    # --- room ----------------------------------------------------------------------------------------------------

    def _has_room(self, origin: Origin) -> bool:
        if self._made.get(origin, 0) >= max(1, self._most // 2):
            return False
        return self._total < self._most or self._close_oldest()

    def _close_oldest(self) -> bool:
        """Make room by a connection that nobody uses."""
        idle = [queue[0] for queue in self._idle.values() if queue]
        if not idle:
            return False
        oldest = min(idle, key=lambda connection: connection.idle_since)
        self._idle[oldest.origin].popleft()
        oldest.close()
        self._forget(oldest)
        return True

    async def _wait(self, origin: Origin) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (origin, waiter)
        self._waiting.append(entry)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake(origin)  # what we were woken for is for the next one
            raise
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)

    def _wake(self, origin: Origin) -> None:
        """The first who waits for this server, else whoever waits longest."""
        entries = [entry for entry in self._waiting if not entry[1].done()]
        if not entries:
            return
        chosen = next((entry for entry in entries if entry[0] == origin), entries[0])
        self._waiting.remove(chosen)
        chosen[1].set_result(None)

    # --- opening and closing -------------------------------------------------------------------------------------

    async def _connect(self, origin: Origin, connect_s: float) -> Connection:
        self._made[origin] = self._made.get(origin, 0) + 1
        self._total += 1
        try:
            async with asyncio.timeout(connect_s):
                loop = asyncio.get_running_loop()
                connection = await self._open_one(origin, lambda: Connection(loop, origin, self._lost))
        except BaseException as error:
            self._leave(origin)
            if isinstance(error, OSError | ValueError):  # a time-out is an OSError too; names may be none
                raise UpstreamUnavailable(is_untouched=True) from error
            raise
        self._open.add(connection)
        return connection

    async def _open_one(self, origin: Origin, protocol: Callable[[], L]) -> L:
        fault: OSError | None = None
        for info in await self._resolver.addresses(origin):
            try:
                return await self._open_address(origin, info, protocol)
            except TimeoutError:
                raise
            except OSError as error:
                fault = error
        raise fault or OSError("the name has no address")

    async def _open_address(self, origin: Origin, info: AddressInfo, protocol: Callable[[], L]) -> L:
        loop = asyncio.get_running_loop()
        link = self._make_socket(info)
        made: list[L] = []

        def make() -> L:
            made.append(protocol())
            return made[0]

        try:
            link.setblocking(False)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(link, info[4])
            _, connection = await loop.create_connection(
                make,
                sock=link,
                ssl=self._tls_context() if origin.is_secure else None,
                server_hostname=origin.host if origin.is_secure else None,
            )
        except BaseException:
            for given_up in made:  # connected already, and given up in that moment
                given_up.close()
            link.close()
            raise
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def _lost(self, connection: Connection) -> None:
        idle = self._idle.get(connection.origin)
        if idle and connection in idle:
            idle.remove(connection)
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        if connection in self._open:
            self._open.discard(connection)
            self._leave(connection.origin)

    def _leave(self, origin: Origin) -> None:
        self._total -= 1
        self._made[origin] -= 1
        if not self._made[origin]:
            del self._made[origin]
            self._idle.pop(origin, None)
        if self._waiting:
            self._wake(origin)

    def _close_idle(self) -> None:
        """Close what was not used for long; look again while anything is idle."""
        self._sweep = None
        for queue in list(self._idle.values()):
            while queue and queue[0].idle_since <= time.monotonic() - IDLE_SECONDS:
                queue.popleft().close()
        if any(self._idle.values()):
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._close_idle)
