"""The next slice of a stream when it cannot be reserved: what is reserved still may be sent, nothing more."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.language.answers import NOT_RESERVED
from gateway.language.asked import read_request
from gateway.language.exchange import ModelExchange
from gateway.language.sizing import Bound, Sizing
from gateway.routes import FurtherMeter, LanguageTerms, ModelEntry
from metering.calls import Admission, Extended
from metering.engine import MeteringUnavailable
from plans.models import Dialect, Measure
from tests.gateway.records import record

REQUEST = Admission(
    shard=17, org_id=7, mode="live", version=1, span_start_us=0, span_end_us=2, period_id=3, quota=-1, meter_id=5, units=0,
    windows=(), key_id=5, key_windows=(), nonce=1,
)  # fmt: skip


@dataclass
class Engine:
    """Answers as it is told, and counts how often it was asked."""

    answer: Extended | None
    asked: int = 0

    async def extend(self, *_: Any, **__: Any) -> Extended:
        self.asked += 1
        if self.answer is None:
            raise MeteringUnavailable
        return self.answer


def exchange(engine: Engine) -> ModelExchange:
    """A stream without a limit whose first slice is reserved."""
    terms = LanguageTerms(Dialect.CHAT_COMPLETIONS, "drain", (FurtherMeter(5, 0, Measure.TOKENS),))
    sizing = Sizing(terms, ModelEntry("a", 4_096, 2, (), ()), Decimal(1), datetime.now(UTC))
    bound = Bound(10, 1_024)
    request = sizing.reserve(record(), REQUEST, bound)
    made: Any = object.__new__(ModelExchange)
    made.asked = read_request(Dialect.CHAT_COMPLETIONS, b'{"model":"a","stream":true}')
    made.sizing, made.bound, made.at_us, made.reservation = sizing, bound, 1, request.reserved_at(1)
    made.call, made.passed = SimpleNamespace(record=record()), SimpleNamespace(request=request)
    made.recorder = SimpleNamespace(engine=engine, hold=lambda _: None)
    found: ModelExchange = made
    return found


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Extended(False, 1, "quota_exceeded"), "quota_exceeded"),
        (Extended(False, 1, ""), NOT_RESERVED.code),
        (None, NOT_RESERVED.code),
    ],
)
def test_what_is_reserved_may_be_sent_and_no_more(answer: Extended | None, code: str) -> None:
    engine = Engine(answer)
    made = exchange(engine)
    assert asyncio.run(made._reserve(4 * 800, 800)) is None
    assert engine.asked == 0
    assert asyncio.run(made._reserve(4 * 1_024, 1_024)) is None
    assert engine.asked == 1
    refusal = asyncio.run(made._reserve(4 * 1_024 + 1, 1_024))
    assert refusal is not None
    assert refusal.code == code


def test_a_slice_is_added_to_what_is_held() -> None:
    engine = Engine(Extended(True, 1, ""))
    made = exchange(engine)
    assert asyncio.run(made._reserve(4 * 1_000, 1_000)) is None
    assert (made.bound.output, made.reservation.units) == (2_048, 10 + 2_048)
    assert asyncio.run(made._reserve(4 * 10_000, 4_000)) is None
    assert (made.bound.output, made.reservation.units) == (
        4_096,
        10 + 4_096,
    )  # never more than the model's longest
    assert asyncio.run(made._reserve(4 * 20_000, 9_000)) is None
    assert engine.asked == 2
