"""One gateway, one API and their rows for all tests of this package.

The rows are flushed after the package, not after each test: a flush would wait for the gateway's reads.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # models cannot be imported before the servers are up
    from tests.gateway.kit import Shop


@pytest.fixture(scope="package")
def shop(django_db_setup: None, django_db_blocker: Any) -> "Iterator[Shop]":
    """Committed rows, the API and the gateway, for all tests of this package."""
    from django.core.management import call_command

    from core.redis import usage_redis
    from tests.conftest import _flush, _truncate_unmanaged
    from tests.examples.processes import running
    from tests.gateway.kit import Process, Shop, sell

    with django_db_blocker.unblock(), running("tests.gateway.upstream") as upstream, usage_redis() as client:
        _flush(client)
        product, routes = sell(upstream.url)
        gateway = Process()
        try:
            yield Shop(gateway.wait_until_ready(), upstream, product, routes)
        finally:
            gateway.stop()
            call_command("flush", interactive=False, verbosity=0)
            _truncate_unmanaged()
            _flush(client)
