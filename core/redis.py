"""Clients of the usage Redis. They time out after two seconds and never send a command twice on their own: a repeated
admission would count a call twice, so whoever may repeat says so himself.
"""

from functools import cache
from threading import Lock
from typing import Any, cast

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException
from redis.retry import Retry

from core.redis_cluster import BlockingClient, LoopClient, LoopCluster, ThreadCluster
from core.redis_loop import LoopPipeline
from core.redis_slots import ClusterAddress, is_cluster
from core.redis_thread import ThreadClient

TIMEOUT_SECONDS = 2.0
_making = Lock()


def usage_redis() -> "redis.Redis":
    """The process's client of the usage Redis (bytes in and out); safe to share by threads and across forks."""
    with _making:  # a second one would soon be dropped, and close connections in use
        return _client(settings.REDIS_URL)


def usage_redis_thread() -> BlockingClient:
    """The process's client for the request path of threads; shared like `usage_redis`."""
    return _thread_client(settings.REDIS_URL)


def usage_redis_async() -> LoopClient:
    """A new asyncio client; one per event loop. Commands of one loop turn leave in one write."""
    url = settings.REDIS_URL
    make = LoopCluster if is_cluster(url) else LoopPipeline
    return make(url, timeout=TIMEOUT_SECONDS)


def slowest_clock() -> int:
    """The time of the usage Redis, whole seconds since 1970; of a Cluster the one that is furthest behind. Raises
    RedisError."""
    client: Any = usage_redis()
    if is_cluster(settings.REDIS_URL):
        answers = client.time(target_nodes=RedisCluster.PRIMARIES)
        return min(int(seconds) for seconds, _ in answers.values())
    return int(client.time()[0])


class _Cluster(RedisCluster):
    """redis-py's client, with every error a RedisError. It repeats a command only where a node said MOVED or ASK."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except RedisClusterException as error:
            raise redis.ConnectionError(str(error)) from error


@cache
def _client(url: str) -> "redis.Redis":
    if is_cluster(url):
        return _cluster_client(ClusterAddress(url))
    return redis.Redis.from_url(
        url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )


def _cluster_client(address: ClusterAddress) -> "redis.Redis":
    user, password = address.credentials
    nodes: list[Any] = [ClusterNode(*node) for node in address.seeds]  # type: ignore[no-untyped-call]
    try:
        client = _Cluster(
            startup_nodes=nodes, username=user, password=password, ssl=address.is_secure, socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS, retry=Retry(NoBackoff(), 0), health_check_interval=0,
        )  # fmt: skip
    except RedisClusterException as error:
        raise redis.ConnectionError(str(error)) from error
    return cast("redis.Redis", client)  # the same commands, each at the node that serves its key


@cache
def _thread_client(url: str) -> BlockingClient:
    make = ThreadCluster if is_cluster(url) else ThreadClient
    return make(url, timeout=TIMEOUT_SECONDS)
