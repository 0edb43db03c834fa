"""Clients of the usage Redis. They time out after two seconds and never send a command twice on their own: a repeated
admission would count a call twice, so whoever may repeat says so himself.
"""

from functools import cache
from threading import Lock

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from core.redis_loop import LoopPipeline
from core.redis_thread import ThreadClient

TIMEOUT_SECONDS = 2.0
_making = Lock()


def usage_redis() -> "redis.Redis":
    """The process's client of the usage Redis (bytes in and out); safe to share by threads and across forks."""
    with _making:  # a second one would soon be dropped, and close connections in use
        return _client(settings.REDIS_URL)


def usage_redis_thread() -> ThreadClient:
    """The process's client for the request path of threads; shared like `usage_redis`."""
    return _thread_client(settings.REDIS_URL)


def usage_redis_async() -> LoopPipeline:
    """A new asyncio client; one per event loop. Commands of one loop turn leave in one write."""
    return LoopPipeline(settings.REDIS_URL, timeout=TIMEOUT_SECONDS)


@cache
def _client(url: str) -> "redis.Redis":
    return redis.Redis.from_url(
        url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )


@cache
def _thread_client(url: str) -> ThreadClient:
    return ThreadClient(url, timeout=TIMEOUT_SECONDS)
