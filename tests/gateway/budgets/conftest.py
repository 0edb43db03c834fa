"""Four workers over one Redis, and four over a Redis Cluster of three nodes; started once for all tests of a module."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # models cannot be imported before the servers are up
    from tests.cluster import Cluster
    from tests.gateway.budgets.kit import House


@pytest.fixture(scope="module")
def house(django_db_setup: None, django_db_blocker: Any) -> "Iterator[House]":
    """Over the Redis of the run."""
    from core.redis import usage_redis
    from tests.conftest import _flush
    from tests.gateway.budgets.kit import open_house

    with django_db_blocker.unblock(), usage_redis() as client:
        _flush(client)
        try:
            with open_house() as house:
                yield house
        finally:
            _empty()
            _flush(client)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Cluster]":
    """Three primaries, the first with a replica."""
    from tests.cluster import Cluster

    cluster = Cluster(Path(tmp_path_factory.mktemp("cluster")), replicas=1)
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def clustered(cluster: "Cluster", django_db_setup: None, django_db_blocker: Any) -> "Iterator[House]":
    """Over a Cluster; this process sees it as REDIS_URL too."""
    from django.conf import settings
    from django.test import override_settings

    from tests.gateway.budgets.kit import open_house

    environment = {
        "REDIS_URL": cluster.url, "BROKER_URL": settings.BROKER_URL, "CACHE_URL": settings.CACHE_URL,
    }  # fmt: skip
    with django_db_blocker.unblock(), override_settings(REDIS_URL=cluster.url):
        try:
            with open_house(**environment) as house:
                yield house
        finally:
            _empty()


def _empty() -> None:
    from django.core.management import call_command

    from tests.conftest import _truncate_unmanaged

    call_command("flush", interactive=False, verbosity=0)
    _truncate_unmanaged()
