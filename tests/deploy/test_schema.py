"""The schema snapshot and the migrations build the same database."""

import gzip
import re
from pathlib import Path

import psycopg
import pytest

from deploy.local import schema, testing
from tests.conftest import ServerFactory

_CATALOGUE = {
    "columns": "SELECT table_name, column_name, data_type, udt_name, is_nullable, column_default, is_identity,"
    " numeric_precision, numeric_scale, character_maximum_length"
    " FROM information_schema.columns WHERE table_schema = 'public' AND table_name !~ '^usage_event_[0-9]'",
    "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text !~ '^usage_event_[0-9]'",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
    " AND tablename !~ '^usage_event_[0-9]'",
    "functions": "SELECT proname, prosrc FROM pg_proc JOIN pg_language l ON l.oid = prolang"
    " WHERE pronamespace = 'public'::regnamespace AND lanname IN ('plpgsql', 'sql')",
    "triggers": "SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "extensions": "SELECT extname FROM pg_extension",
    "migrations": "SELECT app, name FROM django_migrations",
}


@pytest.fixture
def fresh(server_factory: ServerFactory) -> tuple[str, str]:
    """Addresses of a database built by the migrations, and of an empty one on the same server."""
    server, migrated = server_factory.postgres()
    return migrated, testing.clone(server.url, template="template1", name="test_farebox_empty")


def test_snapshot_and_migrations_build_the_same_database(fresh: tuple[str, str]) -> None:
    migrated, empty = fresh

    assert schema.load(empty) is True, "a migration that it stands for was edited: run `make schema`"
    schema.migrate(empty)

    with psycopg.connect(migrated) as one, psycopg.connect(empty) as other:
        for what, query in _CATALOGUE.items():
            assert _plain(one, query) == _plain(other, query), what


def _plain(db: psycopg.Connection, query: str) -> list[str]:
    """Rows as text without casts and brackets: PostgreSQL prints `x IN (...)` differently once it was dumped and read."""
    return sorted(re.sub(r"::[a-z ]+(\[\])?|[()\[\]]", "", str(row)) for row in db.execute(query))


def test_snapshot_is_never_loaded_into_a_database_with_tables(fresh: tuple[str, str]) -> None:
    migrated, _ = fresh
    assert schema.load(migrated) is False


def test_snapshot_is_not_loaded_when_a_migration_it_stands_for_was_edited(
    fresh: tuple[str, str], tmp_path: Path
) -> None:
    _, empty = fresh
    stale = tmp_path / "schema.sql.gz"
    stale.write_bytes(
        gzip.compress(b"-- stands for plans/migrations/0001_other.py 0123456789abcdef\nSELECT 1;")
    )

    assert schema.load(empty, stale) is False


def test_snapshot_that_fails_leaves_the_database_empty(fresh: tuple[str, str], tmp_path: Path) -> None:
    _, empty = fresh
    broken = tmp_path / "schema.sql.gz"
    broken.write_bytes(gzip.compress(b"CREATE TABLE half (id int); SELECT broken;"))

    with pytest.raises(psycopg.errors.UndefinedColumn):
        schema.load(empty, broken)

    assert schema.is_empty(empty)


def test_snapshot_holds_no_month_partitions() -> None:
    text = gzip.decompress(schema.SNAPSHOT.read_bytes()).decode()
    assert "CREATE TABLE public.usage_event " in text
    assert "usage_event_20" not in text
