"""What the gateway's workers see of each upstream server, beside its row."""

import time
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from redis.exceptions import RedisError

from core.redis import usage_redis
from plans.models import ServerOfPool
from plans.upstream_states import ServerSeen, read_states


class SeenByWorkers:
    """For inlines of servers: a line for each state that workers tell; one look at Redis for a page. `kind` as in reports."""

    kind: str

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("seen_by_workers",)

    def get_formset(self, request: HttpRequest, obj: Any = None, **options: Any) -> Any:
        self._states = _states()  # once for all rows; an inline lives for one page
        return super().get_formset(request, obj, **options)  # type: ignore[misc]

    @admin.display(description="Seen by the gateway")
    def seen_by_workers(self, server: ServerOfPool) -> str:
        """ "healthy, 3 open calls (2 workers)"; nothing of a server that is the only one."""
        states = self._states
        if states is None:
            return "unknown: Redis does not answer"
        return words_of(states.get(f"{self.kind}:{server.pk}", {}))


def words_of(seen: dict[str, ServerSeen]) -> str:
    """What workers see, those who see the same together."""
    if not seen:
        return "not asked: the only server, switched off, or no gateway runs"
    workers: dict[str, int] = {}
    for one in seen.values():
        workers[one.words] = workers.get(one.words, 0) + 1
    return "; ".join(
        f"{words} ({count} worker{'s' if count > 1 else ''})" for words, count in sorted(workers.items())
    )


def _states() -> dict[str, dict[str, ServerSeen]] | None:
    try:
        return read_states(usage_redis(), at_s=time.time())
    except RedisError:
        return None
