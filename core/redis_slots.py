"""Which node of a Redis Cluster serves which key: the address of a Cluster, slots, and what its nodes say of them."""

from binascii import crc_hqx
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from redis.exceptions import ResponseError

from core.redis_loop import Argument

SCHEMES = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
SLOTS = 16_384
DEFAULT_PORT = 6379
_WITH_KEY_COUNT = frozenset({"EVAL", "EVALSHA"})
_WITHOUT_KEY = frozenset({"PING", "TIME", "CLUSTER", "CONFIG", "INFO"})


class Node(NamedTuple):
    """Where a node listens."""

    host: str
    port: int


class Redirection(NamedTuple):
    """A node's answer that another one has to be asked; the command did not run."""

    is_lasting: bool  # MOVED; otherwise ASK, for this one command
    slot: int
    node: Node


@dataclass(frozen=True)
class ClusterAddress:
    """`redis+cluster://user:password@host:port,host:port` (rediss+cluster: TLS): some nodes, which tell of the others."""

    url: str

    @cached_property
    def seeds(self) -> tuple[Node, ...]:
        """The nodes that are named. Raises ValueError when there is none, or a database (a Cluster has only 0)."""
        parts = urlsplit(self.url)
        named = [name for name in parts.netloc.rpartition("@")[2].split(",") if name]
        if not named or parts.path not in ("", "/", "/0"):
            raise ValueError("REDIS_URL of a Cluster names its nodes (host:port,host:port) and no database")
        return tuple(_node(name) for name in named)

    @property
    def is_secure(self) -> bool:
        return self.url.startswith("rediss")

    @cached_property
    def credentials(self) -> tuple[str | None, str | None]:
        """User and password."""
        user, colon, password = urlsplit(self.url).netloc.rpartition("@")[0].partition(":")
        return (unquote(user) or None, unquote(password) if colon else None)

    def url_of(self, node: Node) -> str:
        """The address of one node, as a client of a single server wants it."""
        user, password = self.credentials
        login = f"{quote(user or '', safe='')}:{quote(password, safe='')}@" if password is not None else ""
        host = f"[{node.host}]" if ":" in node.host else node.host
        return f"{SCHEMES[self.url.partition('://')[0]]}://{login}{host}:{node.port}/0"


def is_cluster(url: str) -> bool:
    """Whether this REDIS_URL is of a Cluster."""
    return url.partition("://")[0] in SCHEMES


@lru_cache(4096)
def tag_of(key: str) -> str:
    """The part of a key that decides its slot: what stands in the first braces, else all of it."""
    start = key.find("{")
    end = key.find("}", start + 1) if start >= 0 else -1
    return key[start + 1 : end] if end > start + 1 else key


def slot_of(tag: str) -> int:
    """The slot of a tag, or of a key without one."""
    return crc_hqx(tag.encode(), 0) % SLOTS


def key_of(command: Sequence[Argument]) -> str | None:
    """The first key of a command; None for one that any node answers. All keys of a command share their tag."""
    name = str(command[0]).upper()
    if name in _WITHOUT_KEY:
        return None
    key = command[3 if name in _WITH_KEY_COUNT else 1]
    return key.decode() if isinstance(key, bytes) else str(key)


def packed_tag(packed: bytes) -> str:
    """The tag of the first key of a packed command. Raises ValueError when its keys have none."""
    start = packed.index(b"{") + 1
    return packed[start : packed.index(b"}", start)].decode()


def redirection(error: ResponseError, asked: Node) -> Redirection | None:
    """What `MOVED 3999 host:port` and `ASK 3999 host:port` say; without a host it is the host that was asked."""
    word, _, rest = str(error).partition(" ")
    if word not in ("MOVED", "ASK"):
        return None
    slot, _, place = rest.partition(" ")
    node = _node(place)
    return Redirection(word == "MOVED", int(slot), Node(node.host or asked.host, node.port))


class SlotMap:
    """Tag to node, as the last node that was asked told it, and as redirections mended it."""

    def __init__(self) -> None:
        self._nodes: list[Node | None] = [None] * SLOTS
        self._by_tag: dict[str, Node] = {}

    def find(self, tag: str) -> Node | None:
        """The node that serves this tag, if any does as far as we know."""
        node = self._by_tag.get(tag)
        if node is None and (node := self._nodes[slot_of(tag)]) is not None and len(self._by_tag) < SLOTS:
            self._by_tag[tag] = node
        return node

    def all_nodes(self) -> list[Node]:
        """Every node that serves a slot."""
        return list(dict.fromkeys(node for node in self._nodes if node is not None))

    def learn(self, reply: Any, asked: Node) -> None:
        """Take over an answer to CLUSTER SLOTS of this node."""
        nodes: list[Node | None] = [None] * SLOTS
        for first, last, primary, *_replicas in reply:
            host = primary[0].decode() if primary[0] else ""
            nodes[first : last + 1] = [Node(host or asked.host, int(primary[1]))] * (last + 1 - first)
        self._nodes, self._by_tag = nodes, {}

    def move(self, slot: int, node: Node) -> None:
        """A slot is served by this node now."""
        self._nodes[slot] = node
        self._by_tag = {}


def _node(name: str) -> Node:
    host, colon, port = name.rpartition(":")
    if not colon or name.endswith("]"):
        host, port = name, str(DEFAULT_PORT)
    return Node(host.strip("[]"), int(port.partition("@")[0]))
