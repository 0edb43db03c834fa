"""Recurring work on many rows: one at fault holds nobody else back, and its turn comes again with the next run."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import structlog
from django.db import InterfaceError, OperationalError

log = structlog.get_logger(__name__)
T = TypeVar("T")


def one_by_one(items: Iterable[T], act: Callable[[T], int], *, failed: str) -> int:
    """The sum of what `act` (a transaction of its own) answers for each item. What it raises is logged as `failed`; only a
    database that is away ends the run."""
    done = 0
    for item in items:
        try:
            done += act(item)
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:
            log.exception(failed, item=str(item), error=type(error).__name__)
    return done
