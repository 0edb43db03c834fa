from typing import TYPE_CHECKING

import pytest
from redis import Redis

if TYPE_CHECKING:
    from tests.metering.ledger_kit import Ledger


@pytest.fixture
def ledger(transactional_db: None, usage_redis: Redis) -> "Ledger":
    """An empty ledger and an empty usage Redis; commits are real, so that several connections see them."""
    from tests.metering.ledger_kit import Ledger  # models: only after the servers have an address

    return Ledger.start()
