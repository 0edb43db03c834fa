"""Looks for migrations that break a running older version (django-migration-linter), without installing it as an app."""

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django_migration_linter import MigrationLinter  # noqa: E402 - needs the settings

# Written before the first release: no older version can be running on their tables.
FIRST_RELEASE = [
    "0002_partitions",
    "0003_pricing_and_controls",
    "0003_dimensions_and_moments",
    "0003_owner_scopes",
    "0010_rate_limits_of_tokens",
    "0013_replayed_answers",
    "0014_prices_of_pictures",
    "0015_limits_by_scope",
]
OURS = ["core", "accounts", "plans", "keys", "metering", "billing", "dashboard"]


def main() -> int:
    linter = MigrationLinter(
        include_apps=OURS,
        ignore_name=FIRST_RELEASE,
        ignore_initial_migrations=True,
        no_cache=True,
        quiet=["ignore", "ok"],
    )
    linter.lint_all_migrations()
    linter.print_summary()
    return int(linter.has_errors)


if __name__ == "__main__":
    sys.exit(main())
