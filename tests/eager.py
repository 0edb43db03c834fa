"""Celery tasks run where they are sent."""

from collections.abc import Iterator
from contextlib import contextmanager

from config.celery import app


@contextmanager
def tasks_at_once() -> Iterator[None]:
    app.conf.task_always_eager = True
    try:
        yield
    finally:
        app.conf.task_always_eager = False
