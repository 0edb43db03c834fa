"""Calls that another gateway carries out: what is known of them travels with it as a sealed word, so that any worker can
settle them when their end is reported; the worker that admitted them keeps their reservations alive until then.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import structlog
from django.conf import settings

from core.ids import event_id
from gateway.recorder import Recorder
from gateway.tokens import seal, unseal
from keys.records import KeyRecord
from metering.admission import Outcome, Target, billing_reason
from metering.calls import NO_QUOTA, Admission, Admitted, Reservation, Settlement, Settling, corrected_keys
from metering.engine import MeteringUnavailable
from metering.events import Event

log = structlog.get_logger(__name__)

PURPOSE = "reservation"
DOOR = "forward"
# What nginx says of a client that left before there was an answer: 499 in its log, 000 or 009 where it reports.
CLIENT_CLOSED, FIRST_STATUS = 499, 100
LOOK_SECONDS = 1.0
GIVE_UP_SECONDS = (
    45  # with the longest patience (540 s) within the 10 min for which a settled call is remembered
)


@dataclass(frozen=True, slots=True)
class Pending:
    """An admitted call whose end is not known yet; enough to settle it anywhere."""

    reservation: Reservation
    occurred_at_us: int
    version: int
    span_end_us: int
    quota: int
    quantity: Decimal
    key_id: int
    product_id: int
    route_id: int
    bill_client_errors: bool
    request_id: str
    further: tuple[int, ...] = ()  # what a billed call counts as on the further counters of its reservation
    weights: tuple[tuple[str, int, int], ...] = ()  # (key, seconds, weight) that an unbilled call gets back

    @classmethod
    def of(
        cls, record: KeyRecord, request: Admission, answer: Admitted, target: Target, *, bill_client_errors: bool,
        request_id: str,
    ) -> "Pending":  # fmt: skip
        # A reservation that is gone is admitted anew when it is settled, by quota and version but without the cap's prices,
        # which do not travel: version 0 is always outdated, so that such a call is recorded as expired, not past the cap.
        version = 0 if request.spend is not None else request.version
        return cls(
            request.reserved_at(answer.occurred_at_us), answer.occurred_at_us, version, request.span_end_us, request.quota,
            target.quantity, record.key_id, target.product_id, target.route_id, bill_client_errors, request_id,
            tuple(0 if isinstance(c.meter_id, str) else c.units for c in request.daily), corrected_keys(request),
        )  # fmt: skip

    @classmethod
    def unsealed(cls, word: str) -> "Pending | None":
        """The call in a word of ours, else None."""
        facts = unseal(PURPOSE, word)
        if facts is None:
            return None
        version, span_end_us, quota = facts["n"]
        key_id, product_id, route_id, bill_client_errors, request_id = facts["f"]
        further, units, weights = facts.get("m", ((), (), ()))
        reservation = replace(Reservation(*facts["r"]), further=tuple(tuple(row) for row in further))
        return cls(
            reservation, facts["at"], version, span_end_us, quota, Decimal(facts["q"]), key_id, product_id, route_id,
            bill_client_errors, request_id, tuple(units), tuple(tuple(row) for row in weights),
        )  # fmt: skip

    def sealed(self) -> str:
        """The call as a word that travels in a header."""
        r = self.reservation
        more = {"m": [r.further, self.further, self.weights]} if r.further or self.weights else {}
        return seal(PURPOSE, {
            "r": [r.shard, r.org_id, r.mode, r.period_id, r.meter_id, r.units, r.nonce], "at": self.occurred_at_us,
            "n": [self.version, self.span_end_us, self.quota], "q": str(self.quantity),
            "f": [self.key_id, self.product_id, self.route_id, self.bill_client_errors, self.request_id], **more,
        })  # fmt: skip

    def settlement(self, outcome: Outcome | None, *, reason: str = "") -> Settlement:
        """Its end: as it was reported, or (None) unknown. `reason` '' is billed."""
        reason = outcome.reason if outcome else reason
        return Settlement(
            self.reservation, 0 if reason else self.reservation.units, self.event(outcome, reason), self.version,
            self.quota, self.span_end_us, admitted_at_us=self.occurred_at_us,
            further=tuple(Settling(0 if reason else units) for units in self.further),
            further_quotas=tuple(NO_QUOTA for _ in self.further),
            weights=tuple((*row, 0) for row in self.weights) if reason else (),
        )  # fmt: skip

    def event(self, outcome: Outcome | None, reason: str) -> bytes:
        r = self.reservation
        known: dict[str, Any] = {}
        if outcome is not None:
            known = {
                "status": outcome.status if outcome.status >= FIRST_STATUS else None, "duration_us": outcome.duration_us, "bytes_in": outcome.bytes_in,
                "bytes_out": outcome.bytes_out,
            }  # fmt: skip
        return Event(
            id=event_id(self.occurred_at_us, int(r.nonce, 16)), occurred_at_us=self.occurred_at_us,
            organization_id=r.org_id, mode=r.mode, meter_id=r.meter_id, period_id=r.period_id,
            quantity=Decimal(0) if reason else self.quantity, door=DOOR, reason=reason, api_key_id=self.key_id,
            product_id=self.product_id, route_id=self.route_id, request_id=self.request_id, **known,
        ).to_json()  # fmt: skip

    def outcome(self, status: int, *, duration_us: int = 0, bytes_in: int = 0, bytes_out: int = 0) -> Outcome:
        """What a reported status means for the bill."""
        if status == CLIENT_CLOSED or status < FIRST_STATUS:
            reason = "client_gone"
        else:
            reason = billing_reason(status, bill_client_errors=self.bill_client_errors)
        return Outcome(status, reason, duration_us, bytes_in, bytes_out)


async def settle(recorder: Recorder, pending: Pending, outcome: Outcome | None, *, reason: str = "") -> bool:
    """Write the call's end once; False: Redis did not take it."""
    return await recorder.settle(
        pending.settlement(outcome, reason=reason), lambda: pending.event(outcome, "expired")
    )


class Unreported:
    """Calls that this worker admitted and whose end was not reported here, oldest first."""

    def __init__(self, recorder: Recorder, clock: Callable[[], float] = time.monotonic) -> None:
        self._recorder, self._clock = recorder, clock
        self._waiting: dict[str, tuple[float, Pending]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._look())

    async def stop(self) -> None:
        """Their reports may come to another worker: they get their life once more and are left to it."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        held = [pending.reservation for _, pending in self._waiting.values()]
        if held:
            log.info("unreported_calls_left", count=len(held))
            with suppress(MeteringUnavailable):
                await self._recorder.engine.renew(held)

    def add(self, pending: Pending) -> None:
        """Keep it until its end is reported, or its time is up."""
        self._recorder.hold(pending.reservation)
        self._waiting[pending.reservation.nonce] = (
            self._clock() + settings.FORWARD_AUTH_REPORT_SECONDS,
            pending,
        )

    def reported(self, pending: Pending) -> None:
        """Its end is known."""
        self._waiting.pop(pending.reservation.nonce, None)
        self._recorder.let_go(pending.reservation)

    async def look_once(self) -> int:
        """Settle those whose time is up, and those whose reservation could not be renewed: it was settled by a worker that
        got the report (then this changes nothing), or it is gone. How many; what Redis did not take is tried again."""
        at = self._clock()
        due = [
            (until, pending)
            for until, pending in self._waiting.values()
            if until <= at or not self._recorder.holds(pending.reservation)
        ]
        reason = "" if settings.FORWARD_AUTH_UNREPORTED == "billed" else "unreported"
        answers = await asyncio.gather(*(settle(self._recorder, p, None, reason=reason) for _, p in due))
        for (until, pending), is_settled in zip(due, answers, strict=True):
            if is_settled or at > until + GIVE_UP_SECONDS:
                self.reported(pending)
        return sum(answers)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look_once()
            except Exception as error:  # the next round must come whatever this one met
                log.warning("unreported_not_settled", error=type(error).__name__)
