"""The door's rules once more, in plain Python and without packing: the model that the scripts are tested against.

Pure: time is told, nothing is stored elsewhere. It answers with the same values as the engine, so a test runs the same
steps through both and compares. Where model and script differ, one of them is wrong.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from core.ids import event_id
from metering.calls import (
    Admission,
    AdmitAnswer,
    Admitted,
    NoState,
    QuotaState,
    Refused,
    Reservation,
    Settled,
    Settlement,
    SettleOutcome,
    Stale,
    TrackedEvent,
    Verdict,
    WindowState,
    WrongSpan,
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

    def count(self, now_us: int) -> None:
        """Count one admitted call."""
        self.last = self.bucket(now_us)
        self.counts[self.last] += 1
        for bucket in [b for b in self.counts if b < self.last - BUCKETS]:
            del self.counts[bucket]

    def retry_after(self, now_us: int, limit: int) -> int:
        """Whole seconds until one more call fits."""
        newest, left = self.bucket(now_us), self.used(now_us) + 1 - limit
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


UsageName = tuple[int, str, int, int]  # organization, mode, period, meter


@dataclass
class DoorModel:
    """One shard: versions, windows, counters, reservations, stream."""

    epoch: str = "epoch"
    versions: dict[int, int] = field(default_factory=dict)
    windows: dict[tuple[str, int, str, int], StrictWindow] = field(default_factory=dict)
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
        usage = self.usage[_usage_name(request)]
        if not code and 0 <= request.quota < usage.total + request.units:
            code = request.quota_code
        if not code and self._passes_cap(request, request.spend, request.units):
            code = "spend_cap_reached"
        if code:
            return self._refuse(request, code, full, windows, now_us)
        for window in windows:
            window.count(now_us)
        usage.reserved += request.units
        self.reservations[request.org_id][request.reservation] = now_us + request.life_seconds * _MICROSECONDS
        states = self._states(request, windows, None, now_us)
        identifier = event_id(now_us, request.nonce)
        quota = _quota(request, usage.total, now_us)
        return Admitted(now_us, identifier, f"{request.nonce:x}", self.epoch, usage.total, states, quota)

    def settle(self, settlement: Settlement) -> Settled:
        """Write an admitted call's event and true units, once."""
        r, units = settlement.reservation, settlement.units
        if r.nonce in self.settled:
            return Settled(SettleOutcome.DONE, 0)
        is_open = r in self.reservations[r.org_id]
        if units > 0 and not is_open:
            version = self.versions.get(r.org_id)
            if version is None:
                return Settled(SettleOutcome.NO_STATE, 0)
            if version > settlement.version:
                return Settled(SettleOutcome.EXPIRED, 0)
        usage = self.usage[_usage_name(r)]
        own = min(r.units, usage.reserved) if is_open else 0
        if units > own and 0 <= settlement.quota < usage.total - own + units:
            return Settled(SettleOutcome.EXPIRED, 0)
        if units > own and self._passes_cap(r, settlement.spend, units - own):
            return Settled(SettleOutcome.EXPIRED, 0)
        self.stream.append(settlement.event)
        usage.settled += units
        usage.reserved -= own
        self.reservations[r.org_id].pop(r, None)
        self.settled.add(r.nonce)
        return Settled(SettleOutcome.SETTLED, len(self.stream))

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
        usage = self.usage[_usage_name(reservation)]
        usage.reserved -= min(reservation.units, usage.reserved)
        return True

    def sweep(self, org_id: int, *, now_us: int) -> int:
        """Give back all expired reservations of an organization; how many."""
        return self._return_expired(org_id, now_us, len(self.reservations[org_id]))

    def _passes_cap(self, named: Admission | Reservation, spend: SpendLimit | None, more: int) -> bool:
        """Whether usage with so many more units of this meter costs more than the cap."""
        if spend is None:
            return False
        org_id, mode, period_id, meter_id = _usage_name(named)
        priced = [table.meter_id for table in spend.tables]
        counts = {m: self.usage[org_id, mode, period_id, m].total for m in priced}
        return spend.is_passed(counts | {meter_id: counts.get(meter_id, 0) + more})

    def _windows(self, request: Admission) -> list[StrictWindow]:
        names = [("organization", request.org_id, request.mode, seconds) for seconds, _ in request.windows]
        names += [("key", request.key_id, "", seconds) for seconds, _ in request.key_windows]
        return [self.windows.setdefault(name, StrictWindow(name[3])) for name in names]

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
        limits = [limit for _, limit in (*request.windows, *request.key_windows)]
        for i, (window, limit) in enumerate(zip(windows, limits, strict=True)):
            if window.used(now_us) >= limit:
                return "rate_limited" if i < len(request.windows) else "key_rate_limited", i
        return "", None

    def _refuse(
        self, request: Admission, code: str, full: int | None, windows: list[StrictWindow], now_us: int
    ) -> Refused:
        self.refusals[now_us // 60_000_000, request.org_id, request.mode, request.key_id, code] += 1
        seen = [] if request.refusal else windows if full is None else windows[: full + 1]
        states = self._states(request, seen, full, now_us)
        used = self.usage[_usage_name(request)].total
        quota = _quota(request, used, now_us)
        retry = states[full].reset_s if full is not None else 0
        if code == "concurrency_limited":
            retry = 1
        if code in (request.quota_code, "spend_cap_reached"):
            retry = _reset(request, now_us)
        return Refused(code, now_us, retry, used, states, quota)

    @staticmethod
    def _states(
        request: Admission, windows: list[StrictWindow], full: int | None, now_us: int
    ) -> tuple[WindowState, ...]:
        limits = [limit for _, limit in (*request.windows, *request.key_windows)]
        return tuple(
            WindowState(
                window.seconds,
                limits[i],
                max(0, limits[i] - window.used(now_us)),
                window.retry_after(now_us, limits[i]) if i == full else window.reset(now_us),
                i >= len(request.windows),
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
        usage = self.usage[_usage_name(event)]
        usage.settled = max(usage.settled, event.units) if event.is_maximum else usage.settled + event.units
        self.stream.append(event.event)
        return Verdict.ACCEPTED


def _usage_name(named: Admission | Reservation | TrackedEvent) -> UsageName:
    return named.org_id, named.mode, named.period_id, named.meter_id


def _quota(request: Admission, used: int, now_us: int) -> QuotaState | None:
    if request.quota < 0:
        return None
    return QuotaState(request.quota, max(0, request.quota - used), _reset(request, now_us))


def _reset(request: Admission, now_us: int) -> int:
    return -(-(request.span_end_us - now_us) // _MICROSECONDS)
