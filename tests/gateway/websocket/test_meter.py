"""A connection's charges without servers: what is asked of Redis, and what happens when it does not answer."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from gateway.call import Call, Passed
from gateway.recorder import Recorder
from gateway.websocket import meter as meters
from gateway.websocket.meter import Meter
from metering.admission import Target
from metering.answers import METERING_UNAVAILABLE
from metering.calls import Admission, Admitted, Extended, Reservation
from metering.engine import MeteringUnavailable
from plans.models import WebSocketBilling
from tests.gateway.records import record, route

FAR = 9 * 10**15
Answer = Callable[[int], bool]


class Engine:
    """Extends by what `answer` says to so many units; None: away."""

    def __init__(self, answer: Answer | None) -> None:
        self.answer = answer
        self.asked: list[int] = []

    async def extend(self, more: Admission, reservation: Reservation, *, admitted_at_us: int) -> Extended:
        self.asked.append(more.units)
        if self.answer is None:
            raise MeteringUnavailable
        assert (more.windows, more.key_windows) == ((), ())  # messages count in no rate limit
        return Extended(self.answer(more.units), admitted_at_us, "quota_exceeded")

    async def record_refusal(self, *_: Any) -> None: ...


def a_meter(answer: Answer | None) -> tuple[Meter, Engine]:
    engine: Any = Engine(answer)
    sold = replace(
        route("chat", None), websocket=WebSocketBilling.MESSAGES, target=Target(1, 2, 3, 50, Decimal("0.5"))
    )
    caller = record()
    call = Call({"headers": []}, _never, _never, "req_1", b"", caller, sold, "/x", 0.0)
    request = Admission(
        shard=17, org_id=7, mode="live", version=1, span_start_us=0, span_end_us=FAR, period_id=1, quota=1000, meter_id=3,
        units=50, windows=((60, 10),), key_id=5, key_windows=((60, 5),), nonce=77,
    )  # fmt: skip
    admitted: Any = Admitted(1, None, "4d", "e", 50, (), None)  # type: ignore[arg-type]  # its id is not asked for
    callers: Any = None
    return Meter(call, Passed(request, admitted, []), callers=callers, recorder=Recorder(engine)), engine


async def _never(*_: Any) -> Any:
    raise AssertionError("nothing is sent from here")


def test_slices_grow_with_what_was_counted_and_units_are_the_routes() -> None:
    async def play() -> None:
        meter, engine = a_meter(lambda units: True)
        for _ in range(1000):
            assert await meter.take(is_in=True) is None
        messages = [units // 50 for units in engine.asked]
        assert messages == [4, 5, 10, 20, 40, 80, 160, 256, 256, 256]
        assert meter.part.counted == 1000
        assert meter.part.reservation.units == 50 * meter.part.reserved
        assert meter.part.reserved == 1 + sum(messages)

    asyncio.run(play())


def test_what_does_not_fit_as_a_slice_is_asked_for_one_by_one() -> None:
    async def play() -> None:
        meter, engine = a_meter(lambda units: units == 50)
        for _ in range(4):
            assert await meter.take(is_in=False) is None
        assert [units // 50 for units in engine.asked] == [4, 1] * 3
        engine.answer = lambda units: False
        refusal = await meter.take(is_in=False)
        assert refusal is not None
        assert (refusal.code, meter.part.counted) == ("quota_exceeded", 4)

    asyncio.run(play())


def test_messages_wait_for_redis_and_then_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "WAIT_SECONDS", 0.05)
    monkeypatch.setattr(meters, "RETRY_SECONDS", 0.01)

    async def play() -> None:
        meter, engine = a_meter(None)
        assert await meter.take(is_in=True) is None  # reserved by the handshake
        assert await meter.take(is_in=True) is METERING_UNAVAILABLE
        assert len(engine.asked) > 2
        assert (meter.part.counted, meter.part.messages_in) == (1, 1)

    asyncio.run(play())


def test_both_directions_share_what_is_reserved() -> None:
    async def play() -> None:
        meter, engine = a_meter(lambda units: True)
        answers = await asyncio.gather(*(meter.take(is_in=bool(n % 2)) for n in range(100)))
        assert answers == [None] * 100
        assert (meter.part.messages_in, meter.part.messages_out, meter.part.counted) == (50, 50, 100)
        assert meter.part.reserved >= 100
        assert sum(engine.asked) == 50 * (meter.part.reserved - 1)

    asyncio.run(play())


def test_a_message_that_could_not_be_passed_on_is_given_back() -> None:
    async def play() -> None:
        meter, _ = a_meter(lambda units: True)
        await meter.take(is_in=True)
        meter.give_back(is_in=True)
        assert (meter.part.counted, meter.part.messages_in) == (0, 0)

    asyncio.run(play())
