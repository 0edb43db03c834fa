"""Requests of the door as script calls: what to send to Redis, and how to read its replies.

A `Call` knows its script, keys, arguments and how to read the reply, so the sync and the asyncio engine are both just ways to
run calls.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, Generic, TypeVar

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
    weighted_key,
)
from metering.calls import (
    CLAIM_LIFE_MS,
    DAY_LETTER,
    LARGEST,
    LARGEST_LIMIT,
    LIFE_SECONDS,
    OPEN,
    UNTIL_PERIOD_ENDS,
    USAGE_KEPT_MS,
    WAIT_FOR_AN_END,
    Admission,
    AdmitAnswer,
    Admitted,
    Charge,
    Cut,
    Extended,
    NoState,
    QuotaState,
    Refused,
    Reservation,
    RestoreOutcome,
    Settled,
    Settlement,
    SettleOutcome,
    Settling,
    Stale,
    TrackedEvent,
    Verdict,
    Weighted,
    WindowState,
    WrongSpan,
    until_midnight,
)
from metering.scripts import Script, script
from plans.cap_table import SpendLimit

T = TypeVar("T")
_MOST_WINDOWS = 128  # of one call: more than plan and overrides may have (plans/limit_checks.py)
_NUMBERS = [Struct(f">{2 + 2 * windows}Q") for windows in range(_MOST_WINDOWS + 1)]


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
    windows = window_rules(r)
    charges = (*r.charges, *r.daily)
    _check_range(r.version, *(n for c in charges for n in (c.units, max(c.quota, 0))))
    _check_windows(windows)
    keys = [
        organization_key(r.shard, r.org_id),
        shard_key(r.shard),
        usage_key(r.shard, r.org_id, r.mode, r.period_id),
        reservations_key(r.shard, r.org_id),
        expiries_key(r.shard),
        refusals_prefix(r.shard),
        *[rate_key(r.shard, r.org_id, r.mode, seconds) for seconds, _ in r.windows],
        *[key_rate_key(r.shard, r.key_id, seconds) for seconds, _ in r.key_windows],
        *[weighted_key(r.shard, r.org_id, r.mode, w.name, w.seconds) for w in r.weighted],
    ]
    args: list[str | bytes] = [
        str(r.org_id), r.mode, str(r.key_id), str(r.version), str(r.span_start_us), str(r.span_end_us), r.refusal,
        str(r.concurrency), r.reservation.member, str(r.life_seconds * 1_000_000), _usage_expiry(r.span_end_us),
        str(len(windows)), str(1 + len(r.further)), str(len(r.daily)), *_window_args(windows),
        *_charge_args(charges, r.daily, r.spend),
    ]  # fmt: skip
    return keys, args


def window_rules(r: Admission) -> list[Weighted]:
    """All windows of a call in the order of the script's keys."""
    return [
        *[Weighted("", seconds, limit, 1) for seconds, limit in r.windows],
        *[Weighted("", seconds, limit, 1, "key_rate_limited") for seconds, limit in r.key_windows],
        *r.weighted,
    ]


def _check_windows(windows: Sequence[Weighted]) -> None:
    _check_range(*(w.seconds for w in windows))
    if len(windows) > _MOST_WINDOWS:
        raise ValueError("a call has too many windows")
    if any(
        w.seconds < 1 or not (0 <= w.limit <= LARGEST_LIMIT and 0 <= w.weight <= LARGEST_LIMIT)
        for w in windows
    ):
        raise ValueError("a window has at least one second, a limit and a weight below 2^32")


def _window_args(windows: Sequence[Weighted]) -> list[str]:
    return [word for w in windows for word in (str(w.seconds), str(w.limit), str(w.weight), w.code)]


def _charge_args(
    charges: Sequence[Charge], daily: Sequence[Charge], spend: SpendLimit | None
) -> list[str | bytes]:
    """Charges, the cap's tables, and the names of all counters, as admit.lua and extend.lua read them."""
    args: list[str | bytes] = [word for c in charges for word in (str(c.units), str(c.quota), c.code)]
    args.append(spend.packed if spend is not None else "")
    of_period = charges[: len(charges) - len(daily)]
    args += [name for c in (*daily, *of_period) for name in (f"{c.meter_id}", f"r{c.meter_id}")]
    return [*args, *(spend.fields if spend is not None else ())]


def admitted_numbers(request: Admission) -> Struct:
    """What the packed reply of an admission begins with (metering/scripts/admit_plain.lua): its time, what is used, and per window
    what remains and the seconds until all of it does. The epoch follows."""
    return _NUMBERS[len(window_rules(request))]


def parse_admission(request: Admission, reply: Any) -> AdmitAnswer:
    """The answer in a reply of admit.lua."""
    if isinstance(reply, bytes):
        head = admitted_numbers(request)
        now, *numbers = head.unpack_from(reply)
        reply = [b"OK", now, reply[head.size :], b"", -1, 0, 1, *numbers]
    outcome, now = reply[0], int(reply[1])
    if outcome == b"STALE":
        return Stale(now)
    if outcome == b"NOSTATE":
        return NoState(now)
    if outcome == b"SPAN":
        return WrongSpan(now)
    in_use = reply[7 : 7 + int(reply[6])]
    used = int(in_use[0])
    windows = _window_states(request, reply[7 + len(in_use) :])
    reset = -(-(request.span_end_us - now) // 1_000_000)
    quota = QuotaState(request.quota, max(0, request.quota - used), reset) if request.quota >= 0 else None
    if outcome == b"OK":
        identifier = event_id(now, request.nonce)
        return Admitted(
            now,
            identifier,
            f"{request.nonce:x}",
            reply[2].decode(),
            used,
            windows,
            quota,
            tuple(map(int, in_use[1:])),
        )
    code, retry = reply[3].decode(), int(reply[4])
    if retry < 0:
        retry = _until_room(request, code, reset, now)
    return Refused(code, now, retry, used, windows, quota)


def _until_room(request: Admission, code: str, reset_s: int, now_us: int) -> int:
    """Seconds until waiting helps: the end of the span or of the day; 0 where it does not."""
    if code in WAIT_FOR_AN_END:
        return 1
    if code in [charge.code for charge in request.daily]:
        return until_midnight(now_us)
    return reset_s if code in (*(c.code for c in request.charges), *UNTIL_PERIOD_ENDS) else 0


def _window_states(request: Admission, numbers: Sequence[int]) -> tuple[WindowState, ...]:
    return tuple(
        WindowState(
            w.seconds, w.limit, int(numbers[2 * i]), int(numbers[2 * i + 1]), w.code == "key_rate_limited", w.name
        )
        for i, w in enumerate(window_rules(request)[: len(numbers) // 2])
    )  # fmt: skip


def settle_call(settlement: Settlement) -> Call[Settled]:
    """The call that settles one admitted call."""
    r, in_day = settlement.reservation, 0
    rows: list[tuple[int | str, int, Settling, int]] = [
        (r.meter_id, r.units, Settling(settlement.units, settlement.event), settlement.quota)
    ]
    for (period, meter_id, units), true, quota in zip(
        r.further, settlement.further, settlement.further_quotas, strict=True
    ):
        rows.append((meter_id, units, true, quota))
        in_day += period == OPEN or period.startswith(DAY_LETTER)
    _check_range(
        settlement.version, *(n for _, units, true, quota in rows for n in (units, true.units, max(quota, 0)))
    )
    keys = [
        organization_key(r.shard, r.org_id),
        shard_key(r.shard),
        usage_key(r.shard, r.org_id, r.mode, r.period_id),
        reservations_key(r.shard, r.org_id),
        settled_key(r.shard, r.nonce),
        stream_key(r.shard),
        *[key for key, *_ in settlement.weights],
    ]
    args: list[str | bytes] = [
        r.member, str(settlement.version), _usage_expiry(settlement.span_end_us), str(settlement.admitted_at_us),
        str(len(rows) - in_day), str(in_day), str(len(settlement.weights)),
    ]  # fmt: skip
    for meter_id, units, true, quota in rows:
        args += [str(meter_id), str(units), str(true.units), str(quota), true.event]
    args += [str(number) for _, *numbers in settlement.weights for number in numbers]
    args += [settlement.spend.packed, *settlement.spend.fields] if settlement.spend else [""]
    return Call(script("settle"), keys, args, _parse_settled)


def extend_call(request: Admission, reservation: Reservation, *, admitted_at_us: int) -> "Call[Extended]":
    """The call that reserves more for an open reservation: `request` holds the additional units and weights in the order of
    the first admission."""
    windows, charges = request.weighted, (*request.charges, *request.daily)
    _check_range(*(n for c in charges for n in (c.units, max(c.quota, 0))))
    _check_windows(windows)
    keys = [
        organization_key(request.shard, request.org_id),
        usage_key(request.shard, request.org_id, request.mode, request.period_id),
        reservations_key(request.shard, request.org_id),
        *[weighted_key(request.shard, request.org_id, request.mode, w.name, w.seconds) for w in windows],
    ]
    args: list[str | bytes] = [
        reservation.member, reservation.with_more(charges).member, str(request.life_seconds * 1_000_000),
        str(admitted_at_us), str(len(windows)), str(1 + len(request.further)), str(len(request.daily)),
        *_window_args(windows), *_charge_args(charges, request.daily, request.spend),
    ]  # fmt: skip
    return Call(
        script("extend"),
        keys,
        args,
        lambda reply: Extended(reply[0] == b"OK", int(reply[1]), reply[2].decode()),
    )


def _parse_settled(reply: bytes) -> Settled:
    outcome, _, seq = reply.decode().partition(" ")
    return Settled(SettleOutcome(outcome), int(seq or 0))


def track_call(shard: int, events: Sequence[TrackedEvent]) -> Call[list[Verdict]]:
    """The call that records a batch of reported usage; a verdict per event, in order."""
    keys = [shard_key(shard), stream_key(shard)]
    args: list[str | bytes] = [str(len(events)), str(CLAIM_LIFE_MS)]
    for e in events:
        _check_range(e.units, e.day_tokens)
        keys += [
            organization_key(shard, e.org_id),
            usage_key(shard, e.org_id, e.mode, e.period_id),
            claim_key(shard, e.org_id, e.claim),
        ]
        units = f"^{e.units}" if e.is_maximum else str(e.units)
        of_day = f"{e.day}:{e.day_tokens}" if e.day_tokens else ""
        args += [str(e.meter_id), units, _usage_expiry(e.span_end_us), e.event, of_day]
    return Call(script("track"), keys, args, lambda reply: [Verdict(word.decode()) for word in reply])


def renew_call(reservations: Sequence[Reservation], *, life_seconds: int = LIFE_SECONDS) -> Call[list[bool]]:
    """The call that keeps reservations of one shard alive; False for those that are no longer open."""
    keys = [reservations_key(r.shard, r.org_id) for r in reservations]
    args = [str(life_seconds * 1_000_000), *[r.member for r in reservations]]
    return Call(script("renew"), keys, args, lambda reply: [bool(word) for word in reply])


def release_call(r: Reservation) -> Call[bool]:
    """The call that gives a reservation back without an event; False when it was not open."""
    return Call(script("release"), [reservations_key(r.shard, r.org_id)], [r.member], bool)


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
