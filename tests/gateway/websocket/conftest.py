"""One gateway and one API of WebSockets for all tests of this package, and their committed rows."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # models cannot be imported before the servers are up
    from tests.gateway.websocket.kit import Sockets


@pytest.fixture(scope="package")
def sockets(django_db_setup: None, django_db_blocker: Any) -> "Iterator[Sockets]":
    """The shop of WebSockets, flushed after the package."""
    from django.core.management import call_command

    from core.redis import usage_redis
    from tests.conftest import _flush, _truncate_unmanaged
    from tests.examples.processes import running
    from tests.gateway.kit import Process
    from tests.gateway.websocket.kit import ENVIRONMENT, Sockets, sell_sockets

    upstream_process = running("tests.gateway.websocket.upstream")
    with django_db_blocker.unblock(), upstream_process as upstream, usage_redis() as client:
        _flush(client)
        product, routes = sell_sockets(upstream.url)
        gateway = Process(**ENVIRONMENT)
        try:
            yield Sockets(gateway.wait_until_ready(), upstream, product, routes)
        finally:
            gateway.stop()
            call_command("flush", interactive=False, verbosity=0)
            _truncate_unmanaged()
            _flush(client)
