"""Settings for mypy's Django plugin: the real ones, with addresses that nobody connects to."""

import os

os.environ.setdefault("SECRET_KEY", "type-checking-only")
os.environ.setdefault("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
os.environ.setdefault("REDIS_URL", "redis://127.0.0.1:1/0")

from config.settings import *  # noqa: F403
