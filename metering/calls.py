"""What the scripts are asked and what they answer: requests, reservations, settlements, and their answers.

Units are whole smallest units of a meter, times are microseconds of the usage Redis. How they become script calls is
metering/script_calls.py's business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple, TypeVar
from uuid import UUID

from core.redis_layout import (
    weighted_key,
)
from plans.cap_table import SpendLimit

LARGEST = 2**53 - 1
LARGEST_LIMIT = 2**32 - 1  # counts of a window are u32
LIFE_SECONDS = 60
CLAIM_LIFE_MS = 7 * 86_400_000
USAGE_KEPT_MS = 100 * 86_400_000  # counters outlive their period: late settles, reconcile, statements
NO_QUOTA = -1
ANY_NUMBER = -1  # of calls at the same time
DAY_US = 86_400_000_000
DAY = "#"  # in a reservation whose day only the script knows
DAY_LETTER = "d"
OPEN = "open"  # the hash of calls that are open, beside those of periods and days
CORRECTED = (
    "token_rate_limited",
    "unit_rate_limited",
)  # windows whose weight is only known when the call has ended
WAIT_FOR_AN_END = ("key_concurrency_limited", "route_concurrency_limited", "model_concurrency_limited")
UNTIL_PERIOD_ENDS = ("spend_cap_reached",)  # like a full quota: waiting for the span's end helps

T = TypeVar("T")


class Window(NamedTuple):
    """At most `limit` calls in any `seconds`."""

    seconds: int
    limit: int


@dataclass(frozen=True, slots=True)
class Charge:
    """Units of one more meter that a call is charged to, or of a limit of the day (UTC) that it is held against; with a name
    instead of a meter (`key12`), one call of a limit of calls at the same time."""

    meter_id: int | str
    units: int
    quota: int = NO_QUOTA
    code: str = "quota_exceeded"


@dataclass(frozen=True, slots=True)
class Weighted:
    """A rate limit that is not one of calls of the organization or the key: `weight` (tokens; 1 for calls) of `limit` in any
    `seconds`. `name` tells it from others of the organization: `tokens`, `route:12`, `model:gpt-4o:tokens`."""

    name: str
    seconds: int
    limit: int
    weight: int
    code: str = "rate_limited"


@dataclass(frozen=True, slots=True)
class Admission:
    """One call at the door: all that its worker knows. `refusal` is the code of a closed door ('' is open);
    `concurrency` is how many calls of the organization may be open at once, this one included. Beside its first meter a
    call may be charged to `further` ones, and is held against limits of the day and of calls at the same time (`daily`) and
    against `weighted` windows."""

    shard: int
    org_id: int
    mode: str
    version: int
    span_start_us: int
    span_end_us: int
    period_id: int
    quota: int
    meter_id: int
    units: int
    windows: Sequence[tuple[int, int]]
    key_id: int
    key_windows: Sequence[tuple[int, int]]
    nonce: int
    life_seconds: int = LIFE_SECONDS
    refusal: str = ""
    quota_code: str = "quota_exceeded"
    concurrency: int = ANY_NUMBER
    spend: SpendLimit | None = None
    further: tuple[Charge, ...] = ()
    daily: tuple[Charge, ...] = ()
    weighted: tuple[Weighted, ...] = ()

    @property
    def charges(self) -> tuple[Charge, ...]:
        """All meters of the period that it is charged to, its own first."""
        return Charge(self.meter_id, self.units, self.quota, self.quota_code), *self.further

    @property
    def reservation(self) -> "Reservation":
        """What an admission of it holds. Where limits of the day are among them, the answer tells the day: `reserved_at`."""
        return self.reserved_at(None)

    def reserved_at(self, occurred_at_us: int | None) -> "Reservation":
        """What was reserved by the admission of this moment."""
        day = DAY if occurred_at_us is None else day_name(occurred_at_us)
        further = [(f"{self.period_id}", c.meter_id, c.units) for c in self.further]
        further += [(OPEN if isinstance(c.meter_id, str) else day, c.meter_id, c.units) for c in self.daily]
        return Reservation(
            self.shard, self.org_id, self.mode, self.period_id, self.meter_id, self.units, f"{self.nonce:x}",
            tuple(further),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reservation:
    """Units held for one admitted call, named by its nonce; `further`: the same of other counters, each with its period
    (`d20778` for a day, `open` for calls at the same time)."""

    shard: int
    org_id: int
    mode: str
    period_id: int
    meter_id: int
    units: int
    nonce: str
    further: tuple[tuple[str, int | str, int], ...] = ()

    @property
    def member(self) -> str:
        """The reservation as its organization's sorted set holds it."""
        first = f"{self.nonce}:{self.mode}:{self.period_id}:{self.meter_id}:{self.units}"
        return ",".join([first, *(f"{period}:{meter}:{units}" for period, meter, units in self.further)])

    def with_more(self, charges: Sequence[Charge]) -> "Reservation":
        """The same with so many units more of each charge, those of the day last."""
        first, *others = charges
        further = [
            (period, meter, units + more.units)
            for (period, meter, units), more in zip(self.further, others, strict=True)
        ]
        return replace(self, units=self.units + first.units, further=tuple(further))


@dataclass(frozen=True, slots=True)
class WindowState:
    """One rate limit after the decision: `remaining` calls now, all of them again after `reset_s` without a call.
    For the window that refused, `reset_s` is when one call fits again."""

    seconds: int
    limit: int
    remaining: int
    reset_s: int
    of_key: bool
    name: str = ""  # of a weighted window


@dataclass(frozen=True, slots=True)
class QuotaState:
    """A hard quota after the decision; `reset_s` is the end of its span."""

    limit: int
    remaining: int
    reset_s: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """The call may pass; its units are reserved. `used` is settled plus reserved, this call included."""

    occurred_at_us: int
    event_id: UUID
    nonce: str
    epoch: str
    used: int
    windows: tuple[WindowState, ...]
    quota: QuotaState | None
    further: tuple[int, ...] = ()  # the same of the further charges, those of the day last


@dataclass(frozen=True, slots=True)
class Refused:
    """The call may not pass and was counted as refused. `retry_after_s` 0: waiting alone does not help."""

    code: str
    occurred_at_us: int
    retry_after_s: int
    used: int
    windows: tuple[WindowState, ...]
    quota: QuotaState | None


@dataclass(frozen=True, slots=True)
class Stale:
    """The worker's record is older than the organization's version: read it again."""

    now_us: int


@dataclass(frozen=True, slots=True)
class NoState:
    """Redis does not know the organization: 503 until it is pushed or rebuilt."""

    now_us: int


@dataclass(frozen=True, slots=True)
class WrongSpan:
    """The worker's clock chose another span than Redis' time: choose again by `now_us`."""

    now_us: int


AdmitAnswer = Admitted | Refused | Stale | NoState | WrongSpan


@dataclass(frozen=True, slots=True)
class Settling:
    """The true units of one charge and its event (b"": none of its own)."""

    units: int
    event: bytes = b""


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of an admitted call: its true units and its event. Repeat it with the same values until answered.
    `further`: the same of its further charges, in the order of the reservation; `weights`: (key, seconds, weight, true weight)
    of windows that counted more or less than the call turned out to be."""

    reservation: Reservation
    units: int
    event: bytes
    version: int
    quota: int
    span_end_us: int
    spend: SpendLimit | None = None
    admitted_at_us: int = 0
    further: tuple[Settling, ...] = ()
    further_quotas: tuple[int, ...] = ()
    weights: tuple[tuple[str, int, int, int], ...] = ()

    @classmethod
    def of(
        cls, admission: Admission, *, units: int, event: bytes, at_us: int = 0, tokens: int | None = None
    ) -> "Settlement":
        """The settlement of an admission at `at_us` that passed, of one charge: with no units, nothing of it counts but the
        call itself. `tokens` of the day where they are not those that it asked for."""
        is_free = units == 0
        weights = {w.name: (w.weight, 0) for w in admission.weighted if is_free and w.code in CORRECTED}
        if not admission.daily and not weights:
            return cls(
                admission.reservation, units, event, admission.version, admission.quota, admission.span_end_us,
                admission.spend,
            )  # fmt: skip
        held = [
            Settling(0 if is_free or isinstance(c.meter_id, str) else c.units if tokens is None else tokens)
            for c in admission.daily
        ]
        return cls.of_all(
            admission, admission.reserved_at(at_us), [Settling(units, event), *held], at_us=at_us, weights=weights
        )  # fmt: skip

    @classmethod
    def of_all(
        cls, admission: Admission, reservation: Reservation, settled: Sequence[Settling], *, at_us: int,
        weights: Mapping[str, tuple[int, int]],
    ) -> "Settlement":  # fmt: skip
        """The settlement of an admission at `at_us` with all its charges, those of the day last; `weights` are (counted, true)
        by the window's name."""
        first, *further = settled
        return cls(
            reservation, first.units, first.event, admission.version, admission.quota, admission.span_end_us,
            admission.spend, at_us, tuple(further),
            tuple(charge.quota for charge in (*admission.further, *admission.daily)),
            tuple(
                (weighted_key(admission.shard, admission.org_id, admission.mode, w.name, w.seconds), w.seconds, *weights[w.name])
                for w in admission.weighted
                if w.name in weights
            ),
        )  # fmt: skip

    def unbilled(self, event: bytes) -> "Settlement":
        """The same call as a row of quantity 0; always passes (after EXPIRED, with the reason `expired`)."""
        nothing = tuple(Settling(0) for _ in self.further)
        weights = tuple((key, seconds, counted, 0) for key, seconds, counted, _ in self.weights)
        return replace(self, units=0, event=event, further=nothing, weights=weights)


@dataclass(frozen=True, slots=True)
class Extended:
    """Whether more units are reserved now; `code` says what refused them, '' where the reservation itself is gone."""

    is_reserved: bool
    at_us: int
    code: str


class SettleOutcome(StrEnum):
    SETTLED = "SETTLED"  # event and counters are written
    DONE = "DONE"  # they were written before
    EXPIRED = "EXPIRED"  # reservation gone, no room for a new admission: nothing written, cut the connection
    NO_STATE = "NOSTATE"  # Redis lost the organization or the shard: nothing written, cut the connection


@dataclass(frozen=True, slots=True)
class Settled:
    """`seq` is the event's number in its shard, 0 when nothing was written now."""

    outcome: SettleOutcome
    seq: int

    @property
    def is_recorded(self) -> bool:
        return self.outcome in (SettleOutcome.SETTLED, SettleOutcome.DONE)


@dataclass(frozen=True, slots=True)
class TrackedEvent:
    """Usage that happened elsewhere, already sized. `claim` is `claim_digest` of its caller's id. The counter of a maximum
    becomes the largest of its events, that of other meters their sum. `day_tokens` count against the limit of their `day`
    (`d20778`), where the organization has one."""

    org_id: int
    mode: str
    period_id: int
    meter_id: int
    units: int
    claim: str
    span_end_us: int
    event: bytes
    is_maximum: bool = False
    day: str = ""
    day_tokens: int = 0


class Verdict(StrEnum):
    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    OUT_OF_RANGE = "out_of_range"
    NO_STATE = "nostate"


class RestoreOutcome(StrEnum):
    RESTORED = "RESTORED"
    PRESENT = "PRESENT"  # the organization had its state: nothing touched


@dataclass(frozen=True, slots=True)
class Cut:
    """Counters of a shard and the number of its last event, read at one moment. Per usage key: meter -> (settled, reserved)."""

    epoch: str
    seq: int
    counters: dict[str, dict[int, tuple[int, int]]]
    corrected: int = 0  # id of the last counter correction that was applied (metering/corrections.py)


def corrected_keys(admission: Admission) -> tuple[tuple[str, int, int], ...]:
    """(key, seconds, weight) of the windows that get a call's weight back where it is not billed."""
    return tuple(
        (
            weighted_key(admission.shard, admission.org_id, admission.mode, w.name, w.seconds),
            w.seconds,
            w.weight,
        )
        for w in admission.weighted
        if w.code in CORRECTED
    )


def day_name(at_us: int) -> str:
    """The day (UTC) as counters name it: `d` and its number since 1970."""
    return f"d{at_us // DAY_US}"


def until_midnight(at_us: int) -> int:
    """Whole seconds until the next day begins (UTC), rounded up."""
    return -(-(DAY_US - at_us % DAY_US) // 1_000_000)


def claim_digest(source: str, external_id: str) -> str:
    """Names a caller's own id in a claim key, whatever characters and length it has."""
    return sha256(f"{len(source)}:{source}{external_id}".encode()).hexdigest()[:40]
