from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import redis
from django.test import override_settings

from core.redis import usage_redis


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    clients: list[Any] = []
    make = redis.Redis.from_url

    def from_url(*args: Any, **options: Any) -> Any:
        client = make(*args, **options)
        clients.append(client)
        return client

    monkeypatch.setattr(redis.Redis, "from_url", from_url)
    return clients


def test_threads_that_ask_at_once_get_one_client(made: list[Any]) -> None:
    """A second client would be dropped, and close its connections while another thread uses one."""
    together = Barrier(8)

    def ask(_: int) -> Any:
        together.wait(5)
        return usage_redis()

    with override_settings(REDIS_URL="redis://127.0.0.1:1/9"), ThreadPoolExecutor(8) as threads:
        clients = set(threads.map(ask, range(8)))

    assert len(clients) == len(made) == 1
