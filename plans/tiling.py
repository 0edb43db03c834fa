"""How periods tile the time of a subscription: no gap, no overlap, each fee interval begun once. Pure: no clock, no database.

A trial is one period; after it, and after each immediate change, usage months run from a new anchor. Everything else (a
downgrade, a cancellation) waits until what has been paid for is over: `paid_until`. The acts in plans/services.py lay
periods by these functions, one step at a time; `lay` takes whole histories.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from plans.periods import fee_bounds, is_first_month, next_month


@dataclass(frozen=True, slots=True)
class Laid:
    """A period `[starts_at, ends_at)` on a version (any id of it) whose fee interval has `months` months."""

    version: int
    months: int
    anchor: datetime
    starts_at: datetime
    ends_at: datetime
    is_trial: bool = False

    @property
    def fee_is_due(self) -> bool:
        """Whether its statement has the fee; never in a trial."""
        return not self.is_trial and is_first_month(self.anchor, self.starts_at, self.months)

    @property
    def paid_until(self) -> datetime:
        """When a change that waits takes effect: the end of the trial, or of the fee interval."""
        if self.is_trial:
            return self.ends_at
        return fee_bounds(self.anchor, self.starts_at, self.months)[1]


def first_period(version: int, months: int, *, at: datetime, trial_ends_at: datetime | None = None) -> Laid:
    """The period that begins now: a trial where one ends later, or the first usage month of a new anchor."""
    if trial_ends_at is not None and trial_ends_at > at:
        return Laid(version, months, at, at, trial_ends_at, is_trial=True)
    return Laid(version, months, at, at, next_month(at, at))


def following(last: Laid, *, version: int, months: int) -> Laid:
    """The period after `last`, on this version.

    The anchor stays, so that days do not drift from the 31st; only a fee interval that would begin inside another (a yearly
    plan after some months of a monthly one) starts a new one.
    """
    start = last.ends_at
    fits = version == last.version or is_first_month(last.anchor, start, months)
    anchor = last.anchor if fits and not last.is_trial else start
    return Laid(version, months, anchor, start, next_month(anchor, start))


class Act(StrEnum):
    """What a customer does; both changes name a version."""

    CHANGE_NOW = "change_now"
    CHANGE_LATER = "change_later"
    CANCEL = "cancel"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Done:
    """An act at its moment; a change with its version, and with the end of the trial that it starts, if any."""

    at: datetime
    act: Act
    version: int = 0
    months: int = 1
    trial_ends_at: datetime | None = None


@dataclass(slots=True)
class Tiling:
    """A subscription's periods so far, the last of them present, and what waits for the end of what has been paid for."""

    periods: list[Laid]
    trial_ends_at: datetime | None = None
    waiting: Done | None = None
    cancels_at: datetime | None = None

    @property
    def present(self) -> Laid:
        return self.periods[-1]

    def advance(self, at: datetime) -> None:
        """Lay periods until one contains `at`, or the cancelled subscription has ended."""
        while self.present.ends_at <= at and self.present.ends_at != self.cancels_at:
            last, next_one = self.present, self.waiting
            if next_one is not None and last.paid_until == last.ends_at:
                self.waiting = None
                self.periods.append(following(last, version=next_one.version, months=next_one.months))
            else:
                self.periods.append(following(last, version=last.version, months=last.months))

    def take(self, done: Done) -> None:
        """One act, after `advance` to its moment; nothing happens once the subscription has ended."""
        if self.present.ends_at <= done.at:
            return
        if done.act is Act.CANCEL:
            self.cancels_at, self.waiting = self.present.paid_until, None
        elif done.act is Act.KEEP:
            self.cancels_at, self.waiting = None, None
        elif done.act is Act.CHANGE_LATER:
            self.cancels_at, self.waiting = None, done
        else:
            self.cancels_at, self.waiting = None, None
            self._change_now(done)

    def _change_now(self, done: Done) -> None:
        cut = self.periods.pop()
        if cut.starts_at < done.at:
            self.periods.append(replace(cut, ends_at=done.at))
        self.trial_ends_at = done.trial_ends_at or self.trial_ends_at
        begun = first_period(done.version, done.months, at=done.at, trial_ends_at=self.trial_ends_at)
        self.periods.append(begun)


def lay(first: Laid, done: Iterable[Done], *, until: datetime) -> list[Laid]:
    """All periods of a subscription that began with `first`, up to the one that contains `until`, or to its end."""
    tiling = Tiling([first], first.ends_at if first.is_trial else None)
    for act in sorted(done, key=lambda one: one.at):
        if act.at <= until:
            tiling.advance(act.at)
            tiling.take(act)
    tiling.advance(until)
    return tiling.periods
