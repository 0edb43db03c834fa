"""Clients of a Redis Cluster for the request path: a connection a node, and a map of who serves which slot.

A command is repeated only where it surely did not run: a node answered MOVED or ASK, or refused the connection and
another one has taken its place. Every other loss raises (callers answer 503), and the map is read again for the next.
"""

import asyncio
import re
import time
from collections.abc import Awaitable
from contextlib import suppress
from hashlib import sha1
from threading import Lock
from typing import Any, Protocol

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from core.redis_loop import Argument, LoopPipeline, NotSent, Reply, Waiter, pack
from core.redis_slots import (
    ClusterAddress,
    Node,
    Redirection,
    SlotMap,
    key_of,
    packed_tag,
    redirection,
    tag_of,
)
from core.redis_thread import ThreadClient

MOST_REDIRECTIONS = 4
REFRESH_SECONDS = 0.1  # not asked for the map more often than this
_PACKED_EVALSHA = re.compile(rb"(\*\d+\r\n)\$7\r\nEVALSHA\r\n\$40\r\n([0-9a-f]{40})\r\n")
_LOST = (RedisConnectionError, RedisTimeoutError)


class LoopClient(Protocol):
    """What the asyncio engine needs of a client: of one server or of a Cluster."""

    async def execute(self, *command: Argument) -> Reply:
        """The reply to one command. Raises RedisError."""

    def send(self, packed: bytes) -> Awaitable[Reply]:
        """The reply to a packed command. Raises RedisError."""

    def post(self, packed: bytes, waiter: Waiter) -> None:
        """Send a packed command whose end is told to `waiter`."""

    async def aclose(self) -> None:
        """Close all connections."""


class BlockingClient(Protocol):
    """What the engine of threads needs of a client: of one server or of a Cluster."""

    def execute(self, *command: Argument) -> Reply:
        """The reply to one command. Raises RedisError."""


class _Scripts:
    """Sources by name. A node knows only scripts that it ran, so its NOSCRIPT is answered with the source."""

    def __init__(self) -> None:
        self._sources: dict[bytes, str] = {}

    def load(self, command: tuple[Argument, ...]) -> bytes:
        """`SCRIPT LOAD source`, kept here for whichever node will need it."""
        source = str(command[2])
        sha = sha1(source.encode(), usedforsecurity=False).hexdigest().encode()
        self._sources[sha] = source
        return sha

    def source_of(self, command: tuple[Argument, ...]) -> str | None:
        """The source of an EVALSHA, where it is known."""
        return self._sources.get(str(command[1]).encode()) if command[0] == "EVALSHA" else None

    def with_source(self, packed: bytes) -> bytes | None:
        """A packed EVALSHA as EVAL, where the source is known."""
        found = _PACKED_EVALSHA.match(packed)
        source = self._sources.get(found[2]) if found is not None else None
        if found is None or source is None:
            return None
        body = source.encode()
        return b"%b$4\r\nEVAL\r\n$%d\r\n%b\r\n%b" % (found[1], len(body), body, packed[found.end() :])


class _Map(SlotMap):
    """A slot map that knows when it was last asked for."""

    def __init__(self, address: ClusterAddress) -> None:
        super().__init__()
        self.address = address
        self._asked_at = float("-inf")

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() - self._asked_at < REFRESH_SECONDS

    def asked(self) -> None:
        self._asked_at = time.monotonic()

    def candidates(self, *, last: Node | None = None) -> list[Node]:
        """Whom to ask for the map, and for what any node can answer; one that just failed comes last."""
        nodes = dict.fromkeys([*self.all_nodes(), *self.address.seeds])
        return sorted(nodes, key=lambda node: node == last)

    def serving(self, tag: str) -> Node:
        node = self.find(tag)
        if node is None:
            raise RedisConnectionError("no node serves this key's slot")
        return node

    def instead_of(self, node: Node, tag: str, error: RedisError) -> Node:
        """Who serves this tag now that a node is gone. Raises the error while nobody else does."""
        other = self.find(tag)
        if other is None or other == node:
            raise error
        return other

    def redirected(self, error: ResponseError, node: Node) -> Redirection:
        """Where to go instead; the error again, where it says something else."""
        elsewhere = redirection(error, node)
        if elsewhere is None:
            raise error
        self.follow(elsewhere)
        return elsewhere

    def follow(self, elsewhere: Redirection) -> None:
        """Remember what holds for the next commands too."""
        if elsewhere.is_lasting:
            self.move(elsewhere.slot, elsewhere.node)


def _was_refused(error: RedisError) -> bool:
    """Nobody listens there: the command was never sent."""
    return isinstance(error.__cause__, ConnectionRefusedError)


class LoopCluster:
    """`LoopPipeline` over a Cluster: the commands of one loop turn leave in one write a node. Not thread-safe."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self._slots = _Map(ClusterAddress(url))
        self._timeout = timeout
        self._clients: dict[Node, LoopPipeline] = {}
        self._scripts = _Scripts()
        self._refreshing: asyncio.Task[None] | None = None

    async def execute(self, *command: Argument) -> Reply:
        """The reply to one command. Raises RedisError: ConnectionError, TimeoutError, or what Redis answered."""
        if command[0] == "SCRIPT":
            return self._scripts.load(command)
        key = key_of(command)
        if key is None:
            return await self._ask_any(command)
        return await self._ask_with_script(tag_of(key), pack(command))

    async def send(self, packed: bytes) -> Reply:
        """The same for a packed command whose keys have a tag."""
        return await self._ask_with_script(packed_tag(packed), packed)

    def post(self, packed: bytes, waiter: Waiter) -> None:
        """Send a packed command whose keys have a tag; its end is told to `waiter`. Where there is no connection to its node
        `waiter` is told so at once; nothing left then."""
        node = self._slots.find(packed_tag(packed))
        if node is None:
            self._refresh_soon()
            waiter.set_exception(NotSent("not connected"))
        else:
            self._client(node).post(packed, _Posted(self, node, packed, waiter))

    def post_again(self, node: Node, packed: bytes, waiter: Waiter, error: RedisError) -> None:
        """After an error: the same to the node that the first one named, if it named one for good; else the waiter is told."""
        if isinstance(error, ResponseError) and (elsewhere := redirection(error, node)) is not None:
            self._slots.follow(elsewhere)
            self._refresh_soon()
            if elsewhere.is_lasting:
                self._client(elsewhere.node).post(packed, waiter)
                return
            error = NotSent("its slot is being moved")
        elif not isinstance(error, NoScriptError):
            self._refresh_soon(lost=node)
        waiter.set_exception(error)

    async def aclose(self) -> None:
        """Close all connections; commands under way fail."""
        if self._refreshing is not None:
            self._refreshing.cancel()
        for client in self._clients.values():
            await client.aclose()

    async def _ask_with_script(self, tag: str, packed: bytes) -> Reply:
        if self._slots.find(tag) is None:
            await self._refresh()
        try:
            return await self._ask(tag, packed)
        except NoScriptError:
            with_source = self._scripts.with_source(packed)
            if with_source is None:
                raise
            return await self._ask(tag, with_source)

    async def _ask(self, tag: str, packed: bytes) -> Reply:
        node, is_asking = self._slots.serving(tag), False
        for _ in range(MOST_REDIRECTIONS):
            client = self._client(node)
            try:
                return await (_ask_once(client, packed) if is_asking else client.send(packed))
            except _LOST as error:
                if not _was_refused(error):
                    self._refresh_soon(lost=node)
                    raise
                await self._refresh(lost=node)
                node, is_asking = self._slots.instead_of(node, tag, error), False
            except NoScriptError:
                raise
            except ResponseError as error:
                self._refresh_soon()
                elsewhere = self._slots.redirected(error, node)
                node, is_asking = elsewhere.node, not elsewhere.is_lasting
        raise RedisConnectionError("redirected too often")

    async def _ask_any(self, command: tuple[Argument, ...]) -> Reply:
        error: RedisError = RedisConnectionError("no node answers")
        for node in self._slots.candidates():
            try:
                return await self._client(node).execute(*command)
            except _LOST as lost:
                error = lost
        raise error

    def _client(self, node: Node) -> LoopPipeline:
        client = self._clients.get(node)
        if client is None:
            client = LoopPipeline(self._slots.address.url_of(node), timeout=self._timeout)
            self._clients[node] = client
        return client

    def _refresh_soon(self, *, lost: Node | None = None) -> None:
        """Read the map again in the background; one reading at a time."""
        if self._refreshing is None and not self._slots.is_fresh:
            self._refreshing = asyncio.create_task(self._read_map(lost))
            self._refreshing.add_done_callback(self._refreshed)

    def _refreshed(self, task: "asyncio.Task[None]") -> None:
        self._refreshing = None
        if not task.cancelled():
            task.exception()

    async def _refresh(self, *, lost: Node | None = None) -> None:
        self._refresh_soon(lost=lost)
        if self._refreshing is not None:
            await asyncio.shield(self._refreshing)

    async def _read_map(self, lost: Node | None) -> None:
        self._slots.asked()
        for node in self._slots.candidates(last=lost):
            with suppress(RedisError):
                self._slots.learn(await self._client(node).execute("CLUSTER", "SLOTS"), node)
                return


class _Posted:
    """Who waits for a posted command, with what is needed to post it to another node."""

    __slots__ = ("_cluster", "_node", "_packed", "_waiter")

    def __init__(self, cluster: LoopCluster, node: Node, packed: bytes, waiter: Waiter) -> None:
        self._cluster, self._node, self._packed, self._waiter = cluster, node, packed, waiter

    def done(self) -> bool:
        return self._waiter.done()

    def set_result(self, reply: Reply, /) -> None:
        self._waiter.set_result(reply)

    def set_exception(self, error: RedisError, /) -> None:
        self._cluster.post_again(self._node, self._packed, self._waiter, error)


async def _ask_once(client: LoopPipeline, packed: bytes) -> Reply:
    """`ASKING` and the command, one behind the other on one connection. Where another command came between them, the
    node refuses ours without running it, and we are sent on once more."""
    await client.execute("PING")  # connected now, so that both leave in this turn
    asking, reply = client.send(pack(("ASKING",))), client.send(packed)
    await asking
    return await reply


class ThreadCluster:
    """`ThreadClient` over a Cluster. Safe to share by threads and across forks."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self._slots = _Map(ClusterAddress(url))
        self._timeout = timeout
        self._clients: dict[Node, ThreadClient] = {}
        self._scripts = _Scripts()
        self._reading = Lock()

    def execute(self, *command: Argument) -> Reply:
        """The reply to one command. Raises RedisError: ConnectionError, TimeoutError, or what Redis answered."""
        if command[0] == "SCRIPT":
            return self._scripts.load(command)
        key = key_of(command)
        if key is None:
            return self._ask_any(command)
        tag = tag_of(key)
        if self._slots.find(tag) is None:
            self._refresh()
        try:
            return self._ask(tag, command)
        except NoScriptError:
            source = self._scripts.source_of(command)
            if source is None:
                raise
            return self._ask(tag, ("EVAL", source, *command[2:]))

    def _ask(self, tag: str, command: tuple[Argument, ...]) -> Reply:
        node, is_asking = self._slots.serving(tag), False
        for _ in range(MOST_REDIRECTIONS):
            client = self._client(node)
            try:
                if is_asking:
                    client.execute("ASKING")  # a thread has its connection for itself
                return client.execute(*command)
            except _LOST as error:
                self._refresh(lost=node)
                if not _was_refused(error):
                    raise
                node, is_asking = self._slots.instead_of(node, tag, error), False
            except NoScriptError:
                raise
            except ResponseError as error:
                elsewhere = self._slots.redirected(error, node)
                node, is_asking = elsewhere.node, not elsewhere.is_lasting
                self._refresh()
        raise RedisConnectionError("redirected too often")

    def _ask_any(self, command: tuple[Argument, ...]) -> Reply:
        error: RedisError = RedisConnectionError("no node answers")
        for node in self._slots.candidates():
            try:
                return self._client(node).execute(*command)
            except _LOST as lost:
                error = lost
        raise error

    def _client(self, node: Node) -> ThreadClient:
        client = self._clients.get(node)
        if client is None:
            client = ThreadClient(self._slots.address.url_of(node), timeout=self._timeout)
            client = self._clients.setdefault(node, client)
        return client

    def _refresh(self, *, lost: Node | None = None) -> None:
        """Read the map again; whoever comes meanwhile goes on with what there is, or waits where there is none."""
        patience = 0.0 if self._slots.all_nodes() else self._timeout
        if self._slots.is_fresh or not self._reading.acquire(timeout=patience):
            return
        try:
            if not self._slots.is_fresh:
                self._read_map(lost)
        finally:
            self._reading.release()

    def _read_map(self, lost: Node | None) -> None:
        self._slots.asked()
        for node in self._slots.candidates(last=lost):
            with suppress(RedisError):
                reply: Any = self._client(node).execute("CLUSTER", "SLOTS")
                self._slots.learn(reply, node)
                return
