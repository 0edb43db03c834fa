"""A Redis Cluster on loopback: three primaries, each with a third of the slots, and replicas where wanted."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from core.redis_slots import SLOTS
from deploy.local.ports import free_port
from deploy.local.servers import HOST, Valkey

PRIMARIES = 3
PASSWORD = "of-the-cluster"
NODE_TIMEOUT_MS = 1_000


class ClusterNode(Valkey):
    """One server of the Cluster."""

    bus_port = 0

    def prepare(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        (self.state / "password").write_text(PASSWORD)
        self.bus_port = self.bus_port or free_port()
        super().prepare()

    def _settings(self) -> list[str]:
        ours = [line for line in super()._settings() if not line.startswith("databases")]
        return [
            *ours, "cluster-enabled yes", f"cluster-port {self.bus_port}", f"masterauth {PASSWORD}",
            f"cluster-node-timeout {NODE_TIMEOUT_MS}", "cluster-require-full-coverage no", "repl-diskless-sync-delay 0",
        ]  # fmt: skip

    def ask(self, *command: object) -> Any:
        with redis.Redis(port=self.port, password=PASSWORD, socket_timeout=5) as client:
            return client.execute_command(*command)

    def is_linked(self) -> bool:
        """A replica that has its primary's data."""
        said: dict[str, object] = self.ask("INFO", "replication")
        return said.get("master_link_status") == "up"


class Cluster:
    """`replicas`: that many of the primaries, from the first on, have one."""

    def __init__(self, folder: Path, *, replicas: int = 0) -> None:
        self.primaries = [ClusterNode(folder / f"primary-{n}", durable=False) for n in range(PRIMARIES)]
        self.replicas = [ClusterNode(folder / f"replica-{n}", durable=False) for n in range(replicas)]

    @property
    def nodes(self) -> list[ClusterNode]:
        return [*self.primaries, *self.replicas]

    @property
    def url(self) -> str:
        """As REDIS_URL."""
        return f"redis+cluster://:{PASSWORD}@{','.join(f'{HOST}:{node.port}' for node in self.primaries)}"

    def start(self) -> "Cluster":
        for node in self.nodes:
            node.start()
        first = self.primaries[0]
        for number, node in enumerate(self.primaries):
            share = SLOTS * number // PRIMARIES, SLOTS * (number + 1) // PRIMARIES - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", *share)
        for node in self.nodes[1:]:
            node.ask("CLUSTER", "MEET", HOST, first.port, first.bus_port)
        _wait(lambda: all(self._knows_all(node) for node in self.nodes))
        for primary, replica in zip(self.primaries, self.replicas, strict=False):
            replica.ask("CLUSTER", "REPLICATE", primary.ask("CLUSTER", "MYID"))
            _wait(replica.is_linked)
        self.wait_until_well()
        return self

    def wait_until_well(self) -> None:
        """Every node that runs serves, and knows that all slots are served."""
        _wait(lambda: all(self._is_well(node) for node in self.nodes if node.process is not None))

    def stop(self) -> None:
        for node in self.nodes:
            node.thaw()
            node.kill()

    def flush(self) -> None:
        """Empty all primaries."""
        for node in self.primaries:
            node.ask("FLUSHALL")

    def owner_of(self, slot: int) -> ClusterNode:
        """The first primary's idea of who serves a slot at the start."""
        return next(n for i, n in enumerate(self.primaries) if slot < SLOTS * (i + 1) // PRIMARIES)

    def _knows_all(self, node: ClusterNode) -> bool:
        lines = node.ask("CLUSTER", "NODES").splitlines()
        return len(lines) == len(self.nodes) and not any(b"handshake" in line for line in lines)

    def _is_well(self, node: ClusterNode) -> bool:
        said = node.ask("CLUSTER", "INFO").decode()
        return "cluster_state:ok" in said and f"cluster_slots_ok:{SLOTS}" in said


def _wait(condition: Callable[[], bool], *, within: float = 30) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "the cluster did not form in time"
        time.sleep(0.05)
