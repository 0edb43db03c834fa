"""Reservations of long answers, and settles that meet a failing Redis; the engine is a stand-in that fails on demand."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from gateway import recorder as module
from gateway.recorder import Recorder
from metering.calls import Reservation, Settled, Settlement, SettleOutcome
from metering.engine import MeteringUnavailable

RESERVATION = Reservation(17, 7, "live", 1, 1, 1, "abc")
SETTLEMENT = Settlement(RESERVATION, 1, b"event", 1, -1, 0)


@dataclass
class Engine:
    """Answers as told, fails as often as told before."""

    outcome: SettleOutcome = SettleOutcome.SETTLED
    failures: int = 0
    renews: bool | None = True
    settled: list[Settlement] = field(default_factory=list)
    renewed: list[list[Reservation]] = field(default_factory=list)

    async def settle(self, settlement: Settlement) -> Settled:
        self.settled.append(settlement)
        if self.failures:
            self.failures -= 1
            raise MeteringUnavailable
        return Settled(SettleOutcome.SETTLED if settlement.units == 0 else self.outcome, 1)

    async def renew(self, reservations: Sequence[Reservation]) -> list[bool]:
        self.renewed.append(list(reservations))
        if self.renews is None:
            raise MeteringUnavailable
        return [self.renews] * len(reservations)


def _recorder(engine: Engine) -> Recorder:
    return Recorder(engine)  # type: ignore[arg-type]


async def _settle(engine: Engine) -> bool:
    recorder = _recorder(engine)
    recorder.hold(RESERVATION)
    is_settled = await recorder.settle(SETTLEMENT, lambda: b"expired")
    assert not recorder.holds(RESERVATION)
    return is_settled


async def test_settle_is_repeated_with_the_same_arguments() -> None:
    engine = Engine(failures=3)

    assert await _settle(engine)
    assert engine.settled == [SETTLEMENT] * 4


async def test_settle_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.1)
    engine = Engine(failures=10_000)

    assert not await asyncio.wait_for(_settle(engine), 2)
    assert len(engine.settled) > 1


async def test_expired_reservation_without_room_becomes_a_row_of_nothing() -> None:
    engine = Engine(outcome=SettleOutcome.EXPIRED)

    assert not await _settle(engine)
    assert [(s.units, s.event) for s in engine.settled] == [(1, b"event"), (0, b"expired")]


@pytest.mark.parametrize(("renews", "holds"), [(True, True), (False, False), (None, False)])
async def test_answer_goes_on_only_while_its_units_are_reserved(
    monkeypatch: pytest.MonkeyPatch, renews: bool | None, holds: bool
) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(module, "UNRENEWED_SECONDS", 0.3)
    engine = Engine(renews=renews)
    recorder = _recorder(engine)
    recorder.start()
    recorder.hold(RESERVATION)

    assert recorder.holds(RESERVATION)
    await asyncio.sleep(0.5)

    assert recorder.holds(RESERVATION) is holds
    assert engine.renewed[0] == [RESERVATION]
    await recorder.stop()


async def test_what_was_let_go_is_not_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.02)
    engine = Engine()
    recorder = _recorder(engine)
    recorder.start()
    recorder.hold(RESERVATION)
    recorder.let_go(RESERVATION)

    await asyncio.sleep(0.1)

    assert engine.renewed == []
    await recorder.stop()


async def test_settle_goes_on_when_its_caller_is_cancelled() -> None:
    engine = Engine(failures=2)
    recorder = _recorder(engine)
    calling = asyncio.create_task(recorder.settle(SETTLEMENT, lambda: b""))
    await asyncio.sleep(0)
    calling.cancel()

    await recorder.stop()

    assert len(engine.settled) == 3
    assert calling.cancelled()
