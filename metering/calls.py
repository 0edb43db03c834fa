"""What the scripts are asked and what they answer: requests, answers, and the calls that turn one into the other.

A `Call` knows its script, keys, arguments and how to read the reply, so the sync and the asyncio engine are both just
ways to run calls. Units are whole smallest units of a meter, times are microseconds of the usage Redis.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from core.ids import event_id
from core.redis_layout import (
    claim_key,
    expiries_key,
    key_rate_key,
    organization_key,
    rate_key,
    refusals_prefix,
    reservations_key,
    settled_key,
    shard_key,
    stream_key,
    usage_key,
)
from metering.scripts import Script, script
from plans.cap_table import SpendLimit

LARGEST = 2**53 - 1
LARGEST_LIMIT = 2**32 - 1  # counts of a window are u32
LIFE_SECONDS = 60
CLAIM_LIFE_MS = 7 * 86_400_000
USAGE_KEPT_MS = 100 * 86_400_000  # counters outlive their period: late settles, reconcile, statements
NO_QUOTA = -1
ANY_NUMBER = -1  # of calls at the same time
UNTIL_PERIOD_ENDS = ("spend_cap_reached",)  # like a full quota: waiting for the span's end helps

T = TypeVar("T")


class Window(NamedTuple):
    """At most `limit` calls in any `seconds`."""

    seconds: int
    limit: int


@dataclass(frozen=True, slots=True)
class Admission:
    """One call at the door: all that its worker knows. `refusal` is the code of a closed door ('' is open);
    `concurrency` is how many calls of the organization may be open at once, this one included."""

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

    @property
    def reservation(self) -> "Reservation":
        return Reservation(
            self.shard, self.org_id, self.mode, self.period_id, self.meter_id, self.units, f"{self.nonce:x}"
        )


@dataclass(frozen=True, slots=True)
class Reservation:
    """Units held for one admitted call, named by its nonce."""

    shard: int
    org_id: int
    mode: str
    period_id: int
    meter_id: int
    units: int
    nonce: str

    @property
    def member(self) -> str:
        """The reservation as its organization's sorted set holds it."""
        return f"{self.nonce}:{self.mode}:{self.period_id}:{self.meter_id}:{self.units}"


@dataclass(frozen=True, slots=True)
class WindowState:
    """One rate limit after the decision: `remaining` calls now, all of them again after `reset_s` without a call.
    For the window that refused, `reset_s` is when one call fits again."""

    seconds: int
    limit: int
    remaining: int
    reset_s: int
    of_key: bool


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
class Settlement:
    """The end of an admitted call: its true units and its event. Repeat it with the same values until answered."""

    reservation: Reservation
    units: int
    event: bytes
    version: int
    quota: int
    span_end_us: int
    spend: SpendLimit | None = None

    @classmethod
    def of(cls, admission: Admission, *, units: int, event: bytes) -> "Settlement":
        """The settlement of an admission that passed."""
        return cls(
            admission.reservation, units, event, admission.version, admission.quota, admission.span_end_us,
            admission.spend,
        )  # fmt: skip

    def unbilled(self, event: bytes) -> "Settlement":
        """The same call as a row of quantity 0; always passes (after EXPIRED, with the reason `expired`)."""
        return replace(self, units=0, event=event)


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
    becomes the largest of its events, that of other meters their sum."""

    org_id: int
    mode: str
    period_id: int
    meter_id: int
    units: int
    claim: str
    span_end_us: int
    event: bytes
    is_maximum: bool = False


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


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One EVALSHA: what to send, and how to read the reply."""

    script: Script
    keys: Sequence[str]
    args: Sequence[str | bytes]
    parse: Callable[[Any], T]


def admit_call(request: Admission) -> Call[AdmitAnswer]:
    """The call that decides one admission. Raises ValueError for numbers that Redis could not count exactly."""
    keys, args = admit_args(request)
    return Call(script("admit"), keys, args, lambda reply: parse_admission(request, reply))


def admit_args(request: Admission) -> tuple[list[str], list[str | bytes]]:
    """Keys and arguments of admit.lua."""
    r = request
    windows = [*r.windows, *r.key_windows]
    _check_range(r.units, r.version, max(r.quota, 0), *(seconds for seconds, _ in windows))
    if any(seconds < 1 or not 0 <= limit <= LARGEST_LIMIT for seconds, limit in windows):
        raise ValueError("a window has at least one second and a limit below 2^32")
    keys = [
        organization_key(r.shard, r.org_id),
        shard_key(r.shard),
        usage_key(r.shard, r.org_id, r.mode, r.period_id),
        reservations_key(r.shard, r.org_id),
        expiries_key(r.shard),
        refusals_prefix(r.shard),
        *[rate_key(r.shard, r.org_id, r.mode, seconds) for seconds, _ in r.windows],
        *[key_rate_key(r.shard, r.key_id, seconds) for seconds, _ in r.key_windows],
    ]
    args: list[str | bytes] = [
        str(r.org_id), r.mode, str(r.key_id), str(r.version), str(r.span_start_us), str(r.span_end_us), r.refusal,
        str(r.concurrency), str(r.meter_id), str(r.units), str(r.quota), r.quota_code, r.reservation.member,
        str(r.life_seconds * 1_000_000), _usage_expiry(r.span_end_us), str(len(r.windows)), str(len(windows)),
        *[str(number) for window in windows for number in window],
    ]  # fmt: skip
    if r.spend is not None:
        args += [r.spend.packed, *r.spend.fields]
    return keys, args


def parse_admission(request: Admission, reply: Any) -> AdmitAnswer:
    """The answer in a reply of admit.lua."""
    outcome, now = reply[0], int(reply[1])
    if outcome == b"STALE":
        return Stale(now)
    if outcome == b"NOSTATE":
        return NoState(now)
    if outcome == b"SPAN":
        return WrongSpan(now)
    used = int(reply[3])
    windows = _window_states(request, reply[7:])
    reset = -(-(request.span_end_us - now) // 1_000_000)
    quota = QuotaState(request.quota, max(0, request.quota - used), reset) if request.quota >= 0 else None
    if outcome == b"OK":
        identifier = event_id(now, request.nonce)
        return Admitted(now, identifier, f"{request.nonce:x}", reply[2].decode(), used, windows, quota)
    code, retry = reply[4].decode(), int(reply[5])
    if retry < 0:
        retry = reset if code in (request.quota_code, *UNTIL_PERIOD_ENDS) else 0
    return Refused(code, now, retry, used, windows, quota)


def _window_states(request: Admission, numbers: Sequence[int]) -> tuple[WindowState, ...]:
    windows = [*request.windows, *request.key_windows]
    return tuple(
        WindowState(seconds, limit, int(numbers[2 * i]), int(numbers[2 * i + 1]), i >= len(request.windows))
        for i, (seconds, limit) in enumerate(windows[: len(numbers) // 2])
    )


def settle_call(settlement: Settlement) -> Call[Settled]:
    """The call that settles one admitted call."""
    r = settlement.reservation
    _check_range(settlement.units, r.units, settlement.version, max(settlement.quota, 0))
    keys = [
        organization_key(r.shard, r.org_id),
        shard_key(r.shard),
        usage_key(r.shard, r.org_id, r.mode, r.period_id),
        reservations_key(r.shard, r.org_id),
        settled_key(r.shard, r.nonce),
        stream_key(r.shard),
    ]
    args: list[str | bytes] = [
        r.member, str(r.units), str(settlement.units), str(r.meter_id), settlement.event, str(settlement.version),
        str(settlement.quota), _usage_expiry(settlement.span_end_us),
        *((settlement.spend.packed, " ".join(settlement.spend.fields)) if settlement.spend else ("", "")),
    ]  # fmt: skip
    return Call(script("settle"), keys, args, _parse_settled)


def _parse_settled(reply: Any) -> Settled:
    return Settled(SettleOutcome(reply[0].decode()), int(reply[1] or 0))


def claim_digest(source: str, external_id: str) -> str:
    """Names a caller's own id in a claim key, whatever characters and length it has."""
    return sha256(f"{len(source)}:{source}{external_id}".encode()).hexdigest()[:40]


def track_call(shard: int, events: Sequence[TrackedEvent]) -> Call[list[Verdict]]:
    """The call that records a batch of reported usage; a verdict per event, in order."""
    keys = [shard_key(shard), stream_key(shard)]
    args: list[str | bytes] = [str(len(events)), str(CLAIM_LIFE_MS)]
    for e in events:
        _check_range(e.units)
        keys += [
            organization_key(shard, e.org_id),
            usage_key(shard, e.org_id, e.mode, e.period_id),
            claim_key(shard, e.org_id, e.claim),
        ]
        units = f"^{e.units}" if e.is_maximum else str(e.units)
        args += [str(e.meter_id), units, _usage_expiry(e.span_end_us), e.event]
    return Call(script("track"), keys, args, lambda reply: [Verdict(word.decode()) for word in reply])


def renew_call(reservations: Sequence[Reservation], *, life_seconds: int = LIFE_SECONDS) -> Call[list[bool]]:
    """The call that keeps reservations of one shard alive; False for those that are no longer open."""
    keys = [reservations_key(r.shard, r.org_id) for r in reservations]
    args = [str(life_seconds * 1_000_000), *[r.member for r in reservations]]
    return Call(script("renew"), keys, args, lambda reply: [bool(word) for word in reply])


def release_call(r: Reservation) -> Call[bool]:
    """The call that gives a reservation back without an event; False when it was not open."""
    keys = [usage_key(r.shard, r.org_id, r.mode, r.period_id), reservations_key(r.shard, r.org_id)]
    return Call(script("release"), keys, [r.member, str(r.meter_id), str(r.units)], bool)


def sweep_call(shard: int, org_id: int, *, most: int = 100) -> Call[int]:
    """The call that returns expired reservations of one organization; how many."""
    return Call(
        script("sweep"), [reservations_key(shard, org_id), expiries_key(shard)], [str(org_id), str(most)], int
    )


def refusal_call(shard: int, org_id: int, mode: str, key_id: int, reason: str, times: int) -> Call[None]:
    """The call that counts refusals which needed no admission."""
    args = [f"{org_id}:{mode}:{key_id}:{reason}", str(times)]
    return Call(script("refuse"), [refusals_prefix(shard)], args, lambda reply: None)


def restore_call(
    shard: int,
    org_id: int,
    version: int,
    epoch: str,
    counters: Mapping[str, Mapping[int, int]],
    *,
    expires_ms: int,
) -> Call[RestoreOutcome]:
    """The call that puts an organization's counters back: usage key -> meter id -> settled units."""
    keys = [organization_key(shard, org_id), shard_key(shard), reservations_key(shard, org_id), *counters]
    args = [str(version), epoch]
    for meters in counters.values():
        _check_range(*meters.values())
        args += [str(expires_ms), str(len(meters)), *[str(n) for pair in meters.items() for n in pair]]
    return Call(script("restore"), keys, args, lambda reply: RestoreOutcome(reply.decode()))


def cut_call(shard: int, usage_keys: Sequence[str]) -> Call[Cut]:
    """The call that reads counters and the last event's number at one moment."""

    def parse(reply: Any) -> Cut:
        epoch, seq, corrected = reply[0]
        counters = {key: _meters(fields) for key, fields in zip(usage_keys, reply[1:], strict=True)}
        return Cut(epoch.decode() if epoch else "", int(seq or 0), counters, int(corrected or 0))

    return Call(script("cut"), [shard_key(shard), *usage_keys], [], parse)


def _meters(fields: Sequence[bytes]) -> dict[int, tuple[int, int]]:
    values = {name.decode(): int(value) for name, value in zip(fields[::2], fields[1::2], strict=True)}
    meters = {int(name.removeprefix("r")) for name in values}
    return {meter: (values.get(f"{meter}", 0), values.get(f"r{meter}", 0)) for meter in sorted(meters)}


def _usage_expiry(span_end_us: int) -> str:
    return str(span_end_us // 1000 + USAGE_KEPT_MS)


def _check_range(*numbers: int) -> None:
    if any(not 0 <= number <= LARGEST for number in numbers):
        raise ValueError("a quantity must be at least 0 and below 2^53 smallest units")
