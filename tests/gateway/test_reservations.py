"""Calls that wait for their report, with a recorder and a clock of the test's own."""

from dataclasses import replace
from decimal import Decimal
from typing import Any, cast
from uuid import uuid4

import pytest

from gateway.recorder import Recorder
from gateway.reservations import GIVE_UP_SECONDS, Pending, Unreported
from metering.admission import Target
from metering.calls import Admitted, Charge, Reservation, Settlement, Weighted
from metering.events import Event
from metering.script_calls import settle_call
from tests.gateway.records import record
from tests.metering.engine_kit import make_admission


class FakeRecorder:
    """Remembers what it was asked to settle; `answers` says whether Redis takes it."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.settled: list[Settlement] = []
        self.answers = True

    def hold(self, reservation: Reservation) -> None:
        self.held.add(reservation.nonce)

    def holds(self, reservation: Reservation) -> bool:
        return reservation.nonce in self.held

    def let_go(self, reservation: Reservation) -> None:
        self.held.discard(reservation.nonce)

    async def settle(self, settlement: Settlement, unbilled: Any) -> bool:
        self.settled.append(settlement)
        return self.answers


@pytest.fixture
def recorder() -> FakeRecorder:
    return FakeRecorder()


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


@pytest.fixture
def room(recorder: FakeRecorder, clock: list[float], settings: Any) -> Unreported:
    settings.FORWARD_AUTH_REPORT_SECONDS = 100
    return Unreported(cast(Recorder, recorder), lambda: clock[0])


def pending(nonce: str = "1a", **changes: Any) -> Pending:
    reservation = Reservation(17, 7, "live", 3, 2, 5, nonce)
    values: dict[str, Any] = {
        "reservation": reservation, "occurred_at_us": 1_800_000_000_000_000, "version": 4, "span_end_us": 9, "quota": -1,
        "quantity": Decimal("0.05"), "key_id": 5, "product_id": 1, "route_id": 2, "bill_client_errors": False,
        "request_id": "req_1",
    }  # fmt: skip
    return Pending(**values | changes)


def test_what_travels_comes_back_the_same() -> None:
    for one in (pending(), replace(pending("ffff"), bill_client_errors=True, quota=12)):
        assert Pending.unsealed(one.sealed()) == one


async def test_only_those_whose_time_is_up_are_settled(
    room: Unreported, recorder: FakeRecorder, clock: list[float]
) -> None:
    room.add(pending("1a"))
    clock[0] += 60
    room.add(pending("2b"))
    assert await room.look_once() == 0
    clock[0] += 40
    assert await room.look_once() == 1
    (settled,) = recorder.settled
    assert (settled.reservation.nonce, settled.units) == ("1a", 5)
    event = Event.from_json(settled.event)
    assert (event.quantity, event.reason, event.status, event.duration_us) == (
        Decimal("0.05"),
        "",
        None,
        None,
    )
    assert recorder.held == {"2b"}


async def test_a_reported_call_is_left_alone(
    room: Unreported, recorder: FakeRecorder, clock: list[float]
) -> None:
    room.add(pending())
    room.reported(pending())
    clock[0] += 1000
    assert await room.look_once() == 0
    assert recorder.held == set()


async def test_a_reservation_that_is_gone_is_decided_at_once(
    room: Unreported, recorder: FakeRecorder, settings: Any
) -> None:
    """Another worker took the report: then the script answers that it is done."""
    settings.FORWARD_AUTH_UNREPORTED = "free"
    room.add(pending())
    recorder.held.clear()
    assert await room.look_once() == 1
    assert (recorder.settled[0].units, Event.from_json(recorder.settled[0].event).reason) == (0, "unreported")
    assert await room.look_once() == 0


async def test_what_redis_does_not_take_is_tried_again_but_not_for_ever(
    room: Unreported, recorder: FakeRecorder, clock: list[float]
) -> None:
    room.add(pending())
    clock[0] += 101
    recorder.answers = False
    assert [await room.look_once() for _ in range(2)] == [0, 0]
    assert len(recorder.settled) == 2
    clock[0] += GIVE_UP_SECONDS + 1
    await room.look_once()
    await room.look_once()
    assert len(recorder.settled) == 3


def test_what_limits_hold_travels_with_the_call() -> None:
    day, opened = Charge(0, 7, 50), Charge("key5", 1, 2)
    request = make_admission(
        daily=(day, opened), weighted=(Weighted("tokens", 60, 90, 7, "token_rate_limited"), Weighted("route:2", 60, 9, 1))
    )  # fmt: skip
    answer = Admitted(1_800_000_000_000_000, uuid4(), f"{request.nonce:x}", "epoch", 1, (), None)
    target = Target(1, 2, request.meter_id, 1, Decimal(1))
    made = Pending.of(record(), request, answer, target, bill_client_errors=False, request_id="req_1")
    assert Pending.unsealed(made.sealed()) == made
    assert made.reservation.further == (("d20833", 0, 7), ("open", "key5", 1))
    billed, unbilled = made.settlement(None), made.settlement(None, reason="client_gone")
    assert [one.units for one in billed.further] == [7, 0]
    assert billed.weights == ()
    assert (unbilled.units, [one.units for one in unbilled.further]) == (0, [0, 0])
    ((key, *numbers),) = unbilled.weights
    assert (key.endswith(":tokens:60"), numbers) == (True, [60, 7, 0])
    assert settle_call(unbilled).keys[-1] == key
