"""The door table: what the admission script is told about an organization, as half-open spans of time.

A span says which period counts, whether the door is open, and how much may pass. Because spans are laid out ahead (this
and the next two periods), a trial that ends or a month that turns needs no job to run at that second.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from core.clock import to_micros
from plans.cap_table import SpendLimit

NO_QUOTA = -1
LARGEST_UNITS = 2**53 - 1  # beyond it a Lua number is not exact
FOREVER_US = 9_000_000_000_000_000  # year 2255; still exact as a Lua number
PERIODS_AHEAD = 2
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Span:
    """`[start_us, end_us)` of UTC microseconds. `refusal` '' is open; `quotas` holds per meter id the hard quota in the
    meter's smallest unit (absent: none); `quota_code` is what a full quota is called; `spend` is the spend cap with the period's prices."""

    start_us: int
    end_us: int
    period_id: int
    refusal: str
    quotas: tuple[tuple[int, int], ...] = ()
    quota_code: str = "quota_exceeded"
    warning: str = ""
    spend: SpendLimit | None = None

    def quota(self, meter_id: int) -> int:
        """The hard quota of this meter, or NO_QUOTA."""
        for candidate, limit in self.quotas:
            if candidate == meter_id:
                return limit
        return NO_QUOTA


@dataclass(frozen=True, slots=True)
class QuotaTerms:
    """One meter of a plan: what is free of charge, and where the door refuses (None: more is sold)."""

    meter_id: int
    decimals: int
    included: Decimal
    hard_quota: Decimal | None

    @property
    def free_of_charge(self) -> Decimal:
        """What a trial may use."""
        return self.included if self.hard_quota is None else min(self.included, self.hard_quota)


@dataclass(frozen=True, slots=True)
class PeriodFacts:
    """A billing period as far as the door is concerned. `is_blocked`: an alert closed it for live keys."""

    period_id: int
    starts_at: datetime
    ends_at: datetime
    is_trial: bool
    quotas: Sequence[QuotaTerms]
    spend: SpendLimit | None = None
    is_blocked: bool = False


@dataclass(frozen=True, slots=True)
class DoorFacts:
    """All that decides whether an organization may pass, apart from what it has used."""

    suspended: bool
    status: str
    ended_at: datetime | None
    cancels_at: datetime | None
    trial_ends_at: datetime | None
    pays_after_trial: bool
    refused_from: datetime | None
    test_quotas: Sequence[QuotaTerms]


def smallest_units(quantity: Decimal, decimals: int) -> int:
    """A quantity in whole smallest units of its meter. Raises ValueError when it has more digits than the meter."""
    scaled = quantity.scaleb(decimals)
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{quantity} has more than {decimals} decimals")
    return int(scaled)


def door_table(facts: DoorFacts, periods: Iterable[PeriodFacts], *, mode: str) -> tuple[Span, ...]:
    """Spans for the periods given, in order; time outside them is STALE. Periods are split where the door closes."""
    spans: list[Span] = []
    for period in periods:
        spans += _period_spans(facts, period, mode)
    return tuple(spans)


def _period_spans(facts: DoorFacts, period: PeriodFacts, mode: str) -> list[Span]:
    quotas, code = _quotas(facts, period, mode)
    start, end = to_micros(period.starts_at), to_micros(period.ends_at)
    blocked = "blocked_by_alert" if period.is_blocked and mode == "live" else ""
    spend = period.spend if mode == "live" else None
    whole = Span(start, end, period.period_id, blocked, quotas, code, _warning(facts), spend)
    closing = _closing(facts)
    if closing is None or closing[0] >= end:
        return [whole]
    closes_us, refusal = closing
    closed = replace(whole, start_us=max(start, closes_us), refusal=refusal, warning="")
    return [replace(whole, end_us=closes_us), closed] if closes_us > start else [closed]


def _closing(facts: DoorFacts) -> tuple[int, str] | None:
    """The first moment from which the door is closed, and its code."""
    moments: list[tuple[int, str]] = []
    if facts.suspended:
        moments.append((0, "suspended"))
    if facts.status == "suspended":
        moments.append((0, "payment_required"))
    if facts.status == "paused":
        moments.append((0, "subscription_paused"))
    if facts.ended_at is not None:
        moments.append((to_micros(facts.ended_at), "subscription_cancelled"))
    if facts.cancels_at is not None:
        moments.append((to_micros(facts.cancels_at), "subscription_cancelled"))
    if facts.trial_ends_at is not None and not facts.pays_after_trial:
        moments.append((to_micros(facts.trial_ends_at), "trial_over"))
    if facts.refused_from is not None:
        moments.append((to_micros(facts.refused_from), "payment_required"))
    return min(moments) if moments else None


def _quotas(facts: DoorFacts, period: PeriodFacts, mode: str) -> tuple[tuple[tuple[int, int], ...], str]:
    if mode == "test":
        return _summed((q, q.included) for q in facts.test_quotas), "quota_exceeded"
    if period.is_trial:
        return _summed((q, q.free_of_charge) for q in period.quotas), "trial_quota_reached"
    return _summed((q, q.hard_quota) for q in period.quotas), "quota_exceeded"


def _summed(quotas: Iterable[tuple[QuotaTerms, Decimal | None]]) -> tuple[tuple[int, int], ...]:
    """One number a meter: the door does not know dimensions, so their quotas add up; where one sells more, none holds."""
    sums: dict[int, int | None] = {}
    for terms, limit in quotas:
        before = sums.get(terms.meter_id, 0)
        holds = before is not None and limit is not None
        sums[terms.meter_id] = (before or 0) + _whole_units(limit or ZERO, terms.decimals) if holds else None
    return tuple((meter_id, total) for meter_id, total in sums.items() if total is not None)


def _whole_units(quantity: Decimal, decimals: int) -> int:
    """Rounded down: what a meter cannot count is not given."""
    return min(LARGEST_UNITS, int(quantity.scaleb(decimals)))


def _warning(facts: DoorFacts) -> str:
    return "payment_past_due" if facts.status == "past_due" else ""
