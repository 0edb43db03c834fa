"""Where PostgreSQL and Redis are: the environment first, then the servers that `make demo` or `make run` left running.

The supervisor writes `var/servers.json` (process id and both addresses, mode 0600) and removes it when it stops.
"""

import json
import os
from pathlib import Path
from typing import NamedTuple

HINT = (
    "Set DATABASE_URL and REDIS_URL (see .env.example), or start the servers of this machine with "
    "`make demo`, `make run` or `python -m deploy.local servers`."
)


class AddressMissing(Exception):
    """No address is configured and no local servers are running."""


class Addresses(NamedTuple):
    database_url: str
    redis_url: str


def find_addresses(*, database_url: str, redis_url: str, state_file: Path) -> Addresses:
    """Both addresses; raises AddressMissing with a hint when one is neither set nor running, or is SQLite."""
    if database_url.startswith("sqlite"):
        raise AddressMissing(
            "DATABASE_URL is a sqlite: address. Farebox has no SQLite mode: its ledger needs partitions, COPY, "
            "ON CONFLICT and row locks (docs/adr/0001). " + HINT
        )
    if database_url and redis_url:
        return Addresses(database_url, redis_url)
    running = _running_servers(state_file)
    if running is None:
        missing = " and ".join(
            name
            for name, value in (
                ("DATABASE_URL", database_url),
                ("REDIS_URL", redis_url),
            )
            if not value
        )
        raise AddressMissing(f"{missing} is not set and no local servers are running. {HINT}")
    return Addresses(database_url or running.database_url, redis_url or running.redis_url)


def _running_servers(state_file: Path) -> Addresses | None:
    try:
        state = json.loads(state_file.read_text())
        os.kill(int(state["pid"]), 0)
    except PermissionError:
        if not state_file.is_file() or not os.access(state_file, os.R_OK):
            return None  # somebody else's servers: their addresses are not ours to read
    except (OSError, ValueError, KeyError):
        return None
    return Addresses(state["database_url"], state["redis_url"])


def with_database_number(redis_url: str, number: int) -> str:
    """The same Redis server, another database: broker and cache default to 1 and 2 of the usage server.

    Raises AddressMissing for a Cluster: it has one database, and Celery cannot use it.
    """
    if "+cluster://" in redis_url:
        raise AddressMissing(
            "REDIS_URL is a Redis Cluster: set BROKER_URL and CACHE_URL to a Redis of their own (docs/redis-cluster.md)."
        )
    head, _, tail = redis_url.partition("://")
    host, _, _path = tail.partition("/")
    return f"{head}://{host}/{number}"
