from collections.abc import Iterator

import pytest

from tests.eager import tasks_at_once


@pytest.fixture(autouse=True)
def _mails_at_once() -> Iterator[None]:
    with tasks_at_once():
        yield
