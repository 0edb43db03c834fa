"""Emptying the database after a transactional test: only the tables that hold something.

Django's own way truncates every table and then makes all permissions anew; with dj-stripe's eighty tables that took longer than
most tests. Permissions and content types are what migrations made, so they stay.
"""

from typing import Any

KEPT = {"django_migrations", "django_content_type", "auth_permission"}


def empty_filled_tables(test: Any) -> None:
    """In the place of TransactionTestCase._fixture_teardown."""
    from django.db import connections  # settings are not ready when conftest is imported

    for alias in test._databases_names(include_mirrors=False):
        connection = connections[alias]
        names = connection.introspection.django_table_names(only_existing=True, include_views=False)
        quoted = [connection.ops.quote_name(name) for name in names if name not in KEPT]
        with connection.cursor() as cursor:
            cursor.execute(
                " UNION ALL ".join(f"SELECT '{name}' WHERE EXISTS (SELECT FROM {name})" for name in quoted)
            )
            filled = [row[0] for row in cursor.fetchall()]
            if filled:
                cursor.execute(f"TRUNCATE {', '.join(filled)} CASCADE")


def install() -> None:
    from django.test import TransactionTestCase

    TransactionTestCase._fixture_teardown = empty_filled_tables
