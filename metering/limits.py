"""The door's rules once more, in plain Python and without packing: the model that the scripts are tested against.

Pure: time is told, nothing is stored elsewhere. It answers with the same values as the engine, so a test runs the same
steps through both and compares. Where model and script differ, one of them is wrong.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from core.ids import event_id
from core.redis_layout import weighted_key
from metering.calls import (
    WAIT_FOR_AN_END,
    Admission,
    AdmitAnswer,
    Admitted,
    Charge,
    Extended,
    NoState,
    QuotaState,
    Refused,
    Reservation,
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
from metering.scripts import BUCKETS
from plans.cap_table import SpendLimit

RETURNED_AT_ONCE = 4
_MICROSECONDS = 1_000_000


def bucket_of(now_us: int, seconds: int) -> int:
    """The number of the sub-bucket of a window of so many seconds that holds this moment."""
    return now_us * BUCKETS // (seconds * _MICROSECONDS)


def bucket_start(bucket: int, seconds: int) -> int:
    """The first microsecond of a sub-bucket."""
    return -(-bucket * seconds * _MICROSECONDS // BUCKETS)


@dataclass
class StrictWindow:
    """At most `limit` calls in any half-open `seconds`: counts the current sub-bucket and the BUCKETS before it."""

    seconds: int
    counts: Counter[int] = field(default_factory=Counter)
    last: int = 0

    def bucket(self, now_us: int) -> int:
        """The limiter's bucket now; its time never runs back."""
        return max(self.last, bucket_of(now_us, self.seconds))

    def used(self, now_us: int) -> int:
        """Calls that count against the limit now."""
        newest = self.bucket(now_us)
        return sum(n for bucket, n in self.counts.items() if newest - BUCKETS <= bucket <= newest)

    def count(self, now_us: int, weight: int = 1) -> None:
        """Count an admitted call, or its tokens."""
        self.last = self.bucket(now_us)
        self.counts[self.last] += weight
        for bucket in [b for b in self.counts if b < self.last - BUCKETS]:
            del self.counts[bucket]

    def correct(self, at_us: int, weight: int, actual: int) -> None:
        """What was counted at this moment turned out to weigh something else."""
        counted_in = bucket_of(at_us, self.seconds)
        if actual > weight or counted_in >= self.last:
            self.counts[self.last] = max(0, self.counts[self.last] + actual - weight)
        elif counted_in >= self.last - BUCKETS:
            self.counts[counted_in] = max(0, self.counts[counted_in] + actual - weight)

    def retry_after(self, now_us: int, limit: int, weight: int = 1) -> int:
        """Whole seconds until a call of this weight fits."""
        newest, left = self.bucket(now_us), self.used(now_us) + weight - limit
        for bucket in range(newest - BUCKETS, newest):
            left -= self.counts[bucket]
            if left <= 0:
                return self._seconds_until(bucket + BUCKETS + 1, now_us)
        return self.reset(now_us)

    def reset(self, now_us: int) -> int:
        """Whole seconds until nothing counts any more."""
        return self._seconds_until(self.bucket(now_us) + BUCKETS + 1, now_us)

    def _seconds_until(self, bucket: int, now_us: int) -> int:
        return -(-(bucket_start(bucket, self.seconds) - now_us) // _MICROSECONDS)


@dataclass
class Usage:
    settled: int = 0
    reserved: int = 0

    @property
    def total(self) -> int:
        return self.settled + self.reserved


UsageName = tuple[int, str, str, int | str]  # organization, mode, period (or day, or open), meter (or name)


@dataclass
class DoorModel:
    """One shard: versions, windows, counters, reservations, stream."""

    epoch: str = "epoch"
    versions: dict[int, int] = field(default_factory=dict)
    windows: dict[tuple[str, int, str, int], StrictWindow] = field(default_factory=dict)
    weighted: dict[tuple[str, int], StrictWindow] = field(default_factory=dict)
    usage: dict[UsageName, Usage] = field(default_factory=lambda: defaultdict(Usage))
    reservations: dict[int, dict[Reservation, int]] = field(default_factory=lambda: defaultdict(dict))
    settled: set[str] = field(default_factory=set)
    claims: set[tuple[int, str]] = field(default_factory=set)
    stream: list[bytes] = field(default_factory=list)
    refusals: Counter[tuple[int, int, str, int, str]] = field(default_factory=Counter)

    def admit(self, request: Admission, *, now_us: int) -> AdmitAnswer:
        """Decide one call."""
        version = self.versions.get(request.org_id)
        if version is None:
            return NoState(now_us)
        if version > request.version:
            return Stale(now_us)
        if not request.span_start_us <= now_us < request.span_end_us:
            return WrongSpan(now_us)
        windows = self._windows(request)
        code, full = self._closed_or_full(request, windows, now_us)
        if not code and self._is_crowded(request, now_us):
            code = "concurrency_limited"
        self._return_expired(request.org_id, now_us, RETURNED_AT_ONCE)
        reservation = request.reserved_at(now_us)
        charges = list(zip(_counters(reservation), (*request.charges, *request.daily), strict=True))
        for name, charge in charges:
            if not code and 0 <= charge.quota < self.usage[name].total + charge.units:
                code = charge.code
        if not code and self._passes_cap(reservation, request.spend, _by_meter(request.charges)):
            code = "spend_cap_reached"
        if code:
            return self._refuse(request, code, full, windows, now_us)
        for window, rule in zip(windows, _rules(request), strict=True):
            window.count(now_us, rule.weight)
        for name, charge in charges:
            self.usage[name].reserved += charge.units
        self.reservations[request.org_id][reservation] = now_us + request.life_seconds * _MICROSECONDS
        states = self._states(request, windows, None, now_us)
        used, *further = [self.usage[name].total for name, _ in charges]
        identifier, nonce = event_id(now_us, request.nonce), f"{request.nonce:x}"
        quota = _quota(request, used, now_us)
        return Admitted(now_us, identifier, nonce, self.epoch, used, states, quota, tuple(further))

    def settle(self, settlement: Settlement) -> Settled:
        """Write an admitted call's events and true units, once."""
        r = settlement.reservation
        if r.nonce in self.settled:
            return Settled(SettleOutcome.DONE, 0)
        is_open = r in self.reservations[r.org_id]
        first = Settling(settlement.units, settlement.event)
        rows = list(
            zip(
                _counters(r),
                (r.units, *(units for _, _, units in r.further)),
                (first, *settlement.further),
                (settlement.quota, *settlement.further_quotas),
                strict=True,
            )
        )
        if not is_open and any(true.units for _, _, true, _ in rows):
            version = self.versions.get(r.org_id)
            if version is None:
                return Settled(SettleOutcome.NO_STATE, 0)
            if version > settlement.version:
                return Settled(SettleOutcome.EXPIRED, 0)
        own = {name: min(units, self.usage[name].reserved) if is_open else 0 for name, units, *_ in rows}
        more: Counter[int | str] = Counter()
        for name, _, true, quota in rows:
            if true.units > own[name] and 0 <= quota < self.usage[name].total - own[name] + true.units:
                return Settled(SettleOutcome.EXPIRED, 0)
            if true.units > own[name] and name[2] == f"{r.period_id}":
                more[name[3]] += true.units - own[name]
        if more and self._passes_cap(r, settlement.spend, more):
            return Settled(SettleOutcome.EXPIRED, 0)
        for name, _, true, _ in rows:
            self.usage[name].settled += true.units
            self.usage[name].reserved -= own[name]
            self.stream += [true.event] if true.event else []
        self.reservations[r.org_id].pop(r, None)
        self.settled.add(r.nonce)
        for key, seconds, weight, actual in settlement.weights:
            if (key, seconds) in self.weighted:
                self.weighted[key, seconds].correct(settlement.admitted_at_us, weight, actual)
        return Settled(SettleOutcome.SETTLED, len(self.stream))

    def extend(
        self, more: Admission, reservation: Reservation, *, admitted_at_us: int, now_us: int
    ) -> Extended:
        """Reserve more for an open reservation."""
        held, charges = self.reservations[more.org_id], (*more.charges, *more.daily)
        longer = reservation.with_more(charges)
        if longer in held:
            return Extended(True, now_us, "")
        if reservation not in held:
            return Extended(False, now_us, "")
        windows = [self._weighted(more, rule) for rule in more.weighted]
        for window, rule in zip(windows, more.weighted, strict=True):
            if window.used(now_us) + rule.weight > rule.limit:
                return Extended(False, now_us, rule.code)
        names = _counters(more.reserved_at(admitted_at_us))
        for name, charge in zip(names, charges, strict=True):
            if charge.units and 0 <= charge.quota < self.usage[name].total + charge.units:
                return Extended(False, now_us, charge.code)
        if self._passes_cap(reservation, more.spend, _by_meter(more.charges)):
            return Extended(False, now_us, "spend_cap_reached")
        for window, rule in zip(windows, more.weighted, strict=True):
            window.count(now_us, rule.weight)
        for name, charge in zip(names, charges, strict=True):
            self.usage[name].reserved += charge.units
        del held[reservation]
        held[longer] = now_us + more.life_seconds * _MICROSECONDS
        return Extended(True, now_us, "")

    def track(self, events: Iterable[TrackedEvent]) -> list[Verdict]:
        """Record reported usage, each caller's id once."""
        return [self._track(event) for event in events]

    def renew(self, reservation: Reservation, *, now_us: int, life_seconds: int) -> bool:
        """Keep a reservation alive; False when it is not open."""
        held = self.reservations[reservation.org_id]
        if reservation not in held:
            return False
        held[reservation] = now_us + life_seconds * _MICROSECONDS
        return True

    def release(self, reservation: Reservation) -> bool:
        """Give a reservation back; False when it was not open."""
        if self.reservations[reservation.org_id].pop(reservation, None) is None:
            return False
        units = (reservation.units, *(held for _, _, held in reservation.further))
        for name, held in zip(_counters(reservation), units, strict=True):
            self.usage[name].reserved -= min(held, self.usage[name].reserved)
        return True

    def sweep(self, org_id: int, *, now_us: int) -> int:
        """Give back all expired reservations of an organization; how many."""
        return self._return_expired(org_id, now_us, len(self.reservations[org_id]))

    def _passes_cap(self, held: Reservation, spend: SpendLimit | None, more: Mapping[int | str, int]) -> bool:
        """Whether usage with so many more units (by meter) costs more than the cap."""
        if spend is None:
            return False
        priced = [table.meter_id for table in spend.tables]
        period = (held.org_id, held.mode, f"{held.period_id}")
        return spend.is_passed({m: self.usage[*period, m].total + more.get(m, 0) for m in priced})

    def _windows(self, request: Admission) -> list[StrictWindow]:
        names = [("organization", request.org_id, request.mode, seconds) for seconds, _ in request.windows]
        names += [("key", request.key_id, "", seconds) for seconds, _ in request.key_windows]
        found = [self.windows.setdefault(name, StrictWindow(name[3])) for name in names]
        return found + [self._weighted(request, rule) for rule in request.weighted]

    def _weighted(self, request: Admission, rule: Weighted) -> StrictWindow:
        key = weighted_key(request.shard, request.org_id, request.mode, rule.name, rule.seconds)
        return self.weighted.setdefault((key, rule.seconds), StrictWindow(rule.seconds))

    def _is_crowded(self, request: Admission, now_us: int) -> bool:
        held = self.reservations[request.org_id].values()
        return 0 <= request.concurrency <= sum(expires > now_us for expires in held)

    @staticmethod
    def _closed_or_full(
        request: Admission, windows: list[StrictWindow], now_us: int
    ) -> tuple[str, int | None]:
        """The code of a closed door or full window, and which window it was."""
        if request.refusal:
            return request.refusal, None
        for i, (window, rule) in enumerate(zip(windows, _rules(request), strict=True)):
            if window.used(now_us) + rule.weight > rule.limit:
                return rule.code, i
        return "", None

    def _refuse(
        self, request: Admission, code: str, full: int | None, windows: list[StrictWindow], now_us: int
    ) -> Refused:
        self.refusals[now_us // 60_000_000, request.org_id, request.mode, request.key_id, code] += 1
        seen = [] if request.refusal else windows if full is None else windows[: full + 1]
        states = self._states(request, seen, full, now_us)
        used = self.usage[_counters(request.reserved_at(now_us))[0]].total
        quota = _quota(request, used, now_us)
        retry = states[full].reset_s if full is not None else 0
        if code in ("concurrency_limited", *WAIT_FOR_AN_END):
            retry = 1
        elif full is None and code in [charge.code for charge in request.daily]:
            retry = until_midnight(now_us)
        elif code in (*(charge.code for charge in request.charges), "spend_cap_reached"):
            retry = _reset(request, now_us)
        return Refused(code, now_us, retry, used, states, quota)

    @staticmethod
    def _states(
        request: Admission, windows: list[StrictWindow], full: int | None, now_us: int
    ) -> tuple[WindowState, ...]:
        rules = _rules(request)
        return tuple(
            WindowState(
                window.seconds,
                rules[i].limit,
                max(0, rules[i].limit - window.used(now_us)),
                window.retry_after(now_us, rules[i].limit, rules[i].weight)
                if i == full
                else window.reset(now_us),
                len(request.windows) <= i < len(request.windows) + len(request.key_windows),
                rules[i].name,
            )
            for i, window in enumerate(windows)
        )

    def _return_expired(self, org_id: int, now_us: int, most: int) -> int:
        held = self.reservations[org_id]
        due = sorted((at, r.member, r) for r, at in held.items() if at <= now_us)[:most]
        for _, _, reservation in due:
            self.release(reservation)
        return len(due)

    def _track(self, event: TrackedEvent) -> Verdict:
        if event.org_id not in self.versions:
            return Verdict.NO_STATE
        if (event.org_id, event.claim) in self.claims:
            return Verdict.DUPLICATE
        self.claims.add((event.org_id, event.claim))
        usage = self.usage[event.org_id, event.mode, f"{event.period_id}", event.meter_id]
        usage.settled = max(usage.settled, event.units) if event.is_maximum else usage.settled + event.units
        if event.day_tokens:
            self.usage[event.org_id, event.mode, event.day, 0].settled += event.day_tokens
        self.stream.append(event.event)
        return Verdict.ACCEPTED


def _counters(r: Reservation) -> list[UsageName]:
    """The counters that a reservation holds units of, in its order."""
    rows = [(f"{r.period_id}", r.meter_id), *((period, meter_id) for period, meter_id, _ in r.further)]
    return [(r.org_id, r.mode, period, meter_id) for period, meter_id in rows]


def _by_meter(charges: Iterable[Charge]) -> Counter[int | str]:
    units: Counter[int | str] = Counter()
    for charge in charges:
        units[charge.meter_id] += charge.units
    return units


def _rules(request: Admission) -> list[Weighted]:
    """All windows as rules, in the order in which they are asked."""
    plain = [Weighted("", seconds, limit, 1) for seconds, limit in request.windows]
    of_key = [Weighted("", seconds, limit, 1, "key_rate_limited") for seconds, limit in request.key_windows]
    return [*plain, *of_key, *request.weighted]


def _quota(request: Admission, used: int, now_us: int) -> QuotaState | None:
    if request.quota < 0:
        return None
    return QuotaState(request.quota, max(0, request.quota - used), _reset(request, now_us))


def _reset(request: Admission, now_us: int) -> int:
    return -(-(request.span_end_us - now_us) // _MICROSECONDS)
