"""One gateway and one upstream of language models for all tests of this package, and their committed rows."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # models cannot be imported before the servers are up
    from tests.gateway.language.kit import Models


@pytest.fixture(scope="package")
def models(django_db_setup: None, django_db_blocker: Any) -> "Iterator[Models]":
    """The shop of language models, flushed after the package."""
    from django.core.management import call_command

    from core.redis import usage_redis
    from tests.conftest import _flush, _truncate_unmanaged
    from tests.examples.processes import running
    from tests.gateway.kit import Process
    from tests.gateway.language.kit import Models, sell_models

    upstream_process = running("tests.gateway.language.upstream")
    with django_db_blocker.unblock(), upstream_process as upstream, usage_redis() as client:
        _flush(client)
        routes = sell_models(upstream.url)
        gateway = Process()
        try:
            yield Models(gateway.wait_until_ready(), upstream, next(iter(routes.values())).product, routes)
        finally:
            gateway.stop()
            call_command("flush", interactive=False, verbosity=0)
            _truncate_unmanaged()
            _flush(client)
