"""A customer that is changed again and again while somebody asks about its key: the question is answered all the same."""

import asyncio
from types import SimpleNamespace
from typing import Any

from core.clock import now, to_micros
from gateway.questions import Question
from gateway.verify import Verifier
from keys.hashing import digest
from keys.records import load_record
from metering.calls import Stale
from metering.engine import Engine
from metering.verifying import Verified
from tests.gateway.kit import Shop

CHANGES = 3


class Changing:
    """An engine whose organization turns out to be changed some times in a row."""

    def __init__(self) -> None:
        self.asked = 0

    async def run(self, call: Any) -> Any:
        self.asked += 1
        return Verified(Stale(to_micros(now())), False) if self.asked <= CHANGES else Engine().run(call)


def test_three_changes_while_it_is_asked_are_waited_for(shop: Shop) -> None:
    customer = shop.customer()
    key_hash = digest(customer.issued.clear)
    record = load_record(key_hash, at=now())
    reloads: list[bytes] = []

    async def reload(hashed: bytes) -> Any:
        reloads.append(hashed)
        return record

    async def identify(key: str | None, address: str) -> Any:
        return key_hash, record

    engine, loaded = Changing(), SimpleNamespace(is_loaded=True, table=None, value=None)
    callers = SimpleNamespace(reload=reload, identify_key=identify)
    verifier = Verifier(loaded, callers, loaded)  # type: ignore[arg-type]
    question, recorder = Question(customer.issued.clear), SimpleNamespace(engine=engine)
    document = asyncio.run(verifier._answer(question, recorder, "req_test"))  # type: ignore[arg-type]
    assert isinstance(document, dict)
    assert (document["allowed"], document["organization"]) == (True, customer.organization.public_id)
    assert (engine.asked, reloads) == (CHANGES + 1, [key_hash] * CHANGES)
