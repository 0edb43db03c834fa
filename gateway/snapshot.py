"""The only place where the gateway touches the database: in threads, never on the request path of a known key."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

import structlog
from django.db import close_old_connections

from gateway.routes import RouteTable, load_route_table

T = TypeVar("T")
log = structlog.get_logger(__name__)
REFRESH_SECONDS = 0.5  # so that with the time of the reading itself a change is known within a second
_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="records")


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking work of the ORM in a thread with a healthy connection."""

    def run() -> T:
        close_old_connections()
        try:
            return work()
        finally:
            close_old_connections()

    return await asyncio.get_running_loop().run_in_executor(_threads, run)


class Followed(Generic[T]):
    """A value that is read again twice a second; with PostgreSQL away the last one stays."""

    def __init__(self, load: Callable[[], T], empty: T) -> None:
        self._load = load
        self.value = empty
        self.is_loaded = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read once (if PostgreSQL answers) and go on in the background."""
        await self._refresh()
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self._refresh()

    async def _refresh(self) -> None:
        try:
            value = await in_thread(self._load)
            self.value, self.is_loaded = self._chosen(value), True
        except Exception as error:  # whatever it is, the last value goes on and the next turn tries again
            name = type(self.value).__name__
            log.warning("not_refreshed", what=name, error=type(error).__name__, detail=str(error)[:200])

    def _chosen(self, value: T) -> T:
        """The one we have where nothing has changed: what was made ready from it stays ready."""
        return self.value if value == self.value else value


class Catalogue(Followed[RouteTable]):
    """The route table as the database has it."""

    def __init__(self) -> None:
        super().__init__(load_route_table, RouteTable())

    @property
    def table(self) -> RouteTable:
        return self.value
