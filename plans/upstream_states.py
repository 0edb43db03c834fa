"""What the gateway's workers see of upstream servers, for staff. Each tells it every few seconds; who tells nothing is gone.

Reports stand in a hash for each turn of the clock that Redis forgets by itself, so nothing has to be tidied up and nothing has
to be searched: the turn that runs and the one before hold all workers that live.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from core.redis_layout import upstreams_key

REPORT_SECONDS = 5
TURN_SECONDS = 10
KEPT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class ServerSeen:
    """A server as one worker saw it. `server`: "product:12" or "model:3", the row; `seconds`: until an ejection ends."""

    server: str
    state: str  # healthy, ejected, unwell (fails its checks)
    seconds: int = 0
    error: str = ""
    open: int = 0

    @property
    def words(self) -> str:
        """For a page."""
        if self.state == "healthy":
            return f"healthy, {self.open} open call{'' if self.open == 1 else 's'}"
        why = f" ({self.error})" if self.error else ""
        return (f"left out for {self.seconds} s" if self.state == "ejected" else "fails its checks") + why


def turn_of(at_s: float) -> int:
    """The turn of this moment (Unix seconds)."""
    return int(at_s) // TURN_SECONDS


def report_commands(
    worker: str, seen: Iterable[ServerSeen], *, at_s: float
) -> list[tuple[str | bytes | int, ...]]:
    """The commands that leave a worker's report."""
    key = upstreams_key(turn_of(at_s))
    return [("HSET", key, worker, orjson.dumps([asdict(one) for one in seen])), ("EXPIRE", key, KEPT_SECONDS)]


def read_states(client: Any, *, at_s: float) -> dict[str, dict[str, ServerSeen]]:
    """By server, by worker; the newest of each. Raises redis.RedisError."""
    found: dict[str, dict[str, ServerSeen]] = {}
    for turn in (turn_of(at_s) - 1, turn_of(at_s)):
        for worker, report in client.hgetall(upstreams_key(turn)).items():
            for seen in orjson.loads(report):
                found.setdefault(seen["server"], {})[worker.decode()] = ServerSeen(**seen)
    return found
