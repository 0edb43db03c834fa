"""Settings of the usage Redis under which usage can get lost are named, by real servers that have them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from django.core.checks import run_checks
from django.core.checks.registry import Tags

from metering.checks import store_faults
from tests.cluster import Cluster


@pytest.fixture
def store(server_factory: Any, settings: Any) -> Iterator["redis.Redis"]:
    """A server of the test's own, which is the usage Redis meanwhile."""
    settings.REDIS_URL = server_factory.valkey().url
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.config_set("appendonly", "yes")
        yield client


def named() -> set[str]:
    return {fault.id for fault in store_faults()}


def test_a_server_as_it_should_be_has_no_fault(store: "redis.Redis") -> None:
    assert named() == set()


def test_eviction_and_forgetting_are_named(store: "redis.Redis") -> None:
    store.config_set("maxmemory-policy", "allkeys-lru")
    assert named() == {"metering.W001"}
    store.config_set("appendonly", "no")
    assert named() == {"metering.W001", "metering.W002"}


@pytest.mark.django_db
def test_they_are_warnings_of_the_check_that_asks_servers_only(store: "redis.Redis") -> None:
    store.config_set("maxmemory-policy", "volatile-ttl")
    asked = run_checks(tags=[Tags.database], databases=["default"])
    assert "metering.W001" in {one.id for one in asked}
    assert "metering.W001" not in {one.id for one in run_checks()}


def test_what_a_server_does_not_tell_is_no_fault(store: "redis.Redis", settings: Any) -> None:
    store.config_set("maxmemory-policy", "allkeys-lru")
    store.execute_command("ACL", "SETUSER", "plain", "on", ">secret", "~*", "+@all", "-config")
    parts = urlsplit(settings.REDIS_URL)
    settings.REDIS_URL = f"redis://plain:secret@{parts.hostname}:{parts.port}/0"
    assert named() == set()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path).start()
    yield found
    found.stop()


def test_one_node_of_a_cluster_is_enough_of_a_fault(cluster: Cluster, settings: Any) -> None:
    settings.REDIS_URL = cluster.url
    for node in cluster.primaries:
        node.ask("CONFIG", "SET", "appendonly", "yes")
    assert named() == set()
    cluster.primaries[2].ask("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    assert named() == {"metering.W001"}
