"""What every test of this suite relies on: a migrated database of its own, and an empty Redis."""

import os

import psycopg
import pytest
import redis
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from tests.conftest import ServerFactory


@pytest.mark.django_db
def test_database_is_a_migrated_clone() -> None:
    assert connection.settings_dict["NAME"].startswith("test_farebox_")
    executor = MigrationExecutor(connection)
    assert executor.migration_plan(executor.loader.graph.leaf_nodes()) == []


@pytest.mark.django_db
def test_partitioned_ledger_exists_in_tests() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT relkind FROM pg_class WHERE relname = 'usage_event'")
        assert cursor.fetchone() == ("p",)


@pytest.mark.django_db(transaction=True)
def test_transactional_tests_may_write_the_ledger_of_anybody() -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO usage_event_key VALUES (1, 'test', 'left behind', gen_random_uuid())")
        cursor.execute("SELECT count(*) FROM usage_event_key")
        assert cursor.fetchone() == (1,)


@pytest.mark.django_db
def test_ledger_is_empty_after_a_transactional_test() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM usage_event_key")
        assert cursor.fetchone() == (0,)


def test_usage_redis_is_the_one_of_the_settings_and_empty(usage_redis: "redis.Redis") -> None:
    assert os.environ["REDIS_URL"] == settings.REDIS_URL
    assert usage_redis.dbsize() == 0


def test_servers_of_a_test_are_migrated_and_survive_a_kill(server_factory: ServerFactory) -> None:
    postgres, url = server_factory.postgres()
    valkey = server_factory.valkey()
    with redis.Redis.from_url(valkey.url) as client:
        client.set("kept", 1)
    postgres.kill()
    valkey.kill()

    postgres.start()
    valkey.start()

    with redis.Redis.from_url(valkey.url) as client:
        assert client.get("kept") == b"1"
    with psycopg.connect(url) as db:
        assert db.execute("SELECT to_regclass('usage_event')::text").fetchone() == ("usage_event",)
