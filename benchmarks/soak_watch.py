"""What `make soak` looks at meanwhile: memory and descriptors of every process, and the keys in Redis."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from benchmarks.kit import descriptors, rss_kb

TENTHS = 10


@dataclass
class Seen:
    """One process over time; `restarts` counts how often another one had taken its place."""

    pids: list[int] = field(default_factory=list)
    memory_kb: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    @property
    def restarts(self) -> int:
        return sum(before != after for before, after in pairwise(self.pids))


@dataclass
class Watch:
    """Samples at even intervals. `processes` tells their ids by name, `count_keys` the keys in Redis by kind."""

    processes: Callable[[], Mapping[str, int]]
    count_keys: Callable[[], Mapping[str, int]]
    seen: dict[str, Seen] = field(default_factory=dict)
    keys: list[Mapping[str, int]] = field(default_factory=list)

    def look(self) -> None:
        """Take one sample."""
        for name, pid in self.processes().items():
            one = self.seen.setdefault(name, Seen())
            one.pids.append(pid)
            one.memory_kb.append(rss_kb(pid))
            one.descriptors.append(descriptors(pid))
        self.keys.append(self.count_keys())

    def keys_of(self, kind: str) -> list[int]:
        return [sample.get(kind, 0) for sample in self.keys]


def growth(samples: Sequence[float]) -> tuple[float, float]:
    """The medians of the second and of the last tenth: before the second a process still warms up."""
    size = max(1, len(samples) // TENTHS)
    return median(samples[size : 2 * size] or samples[:size]), median(samples[-size:])


def count_keys() -> dict[str, int]:
    """Keys of the usage Redis by kind, and of the broker and the cache beside it."""
    import redis
    from django.conf import settings

    from core.redis import usage_redis
    from core.redis_layout import LAYOUT

    counts: dict[str, int] = {}
    for key in usage_redis().scan_iter(f"{LAYOUT}:*", count=5_000):
        parts = key.decode().split(":")
        kind = parts[2] if len(parts) > 2 else parts[1]
        counts[kind] = counts.get(kind, 0) + 1
    for name, url in (("broker", settings.BROKER_URL), ("cache", settings.CACHE_URL)):
        with redis.Redis.from_url(url) as client:
            counts[name] = int(client.dbsize())
    return counts
