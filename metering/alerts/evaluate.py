"""Which alerts fire and which go back below: pure, no clock, no database."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True)
class Measure:
    """What an alert looks at in one period: `value` so far and `limit`, the threshold in the same unit."""

    value: Decimal
    limit: Decimal

    @property
    def is_reached(self) -> bool:
        return self.value >= self.limit


@dataclass(frozen=True, slots=True)
class Watched:
    """One alert in one period. `measure` None: nothing to look at (no cap is set, another currency, switched off)."""

    alert_id: int
    measure: Measure | None
    is_open: bool


@dataclass(frozen=True, slots=True)
class Change:
    """An alert that fires, or (`fires` False) one that is below its threshold again; without a measure, no longer watched."""

    alert_id: int
    fires: bool
    measure: Measure | None


def changes(watched: Iterable[Watched]) -> list[Change]:
    """What changes, in the order given. An alert that stays where it was is not in it, however often one asks."""
    found = []
    for one in watched:
        is_reached = one.measure is not None and one.measure.is_reached
        if is_reached != one.is_open:
            found.append(Change(one.alert_id, is_reached, one.measure))
    return found


def share_of(base: Decimal, percent: Decimal) -> Decimal:
    """The threshold of "percent of base" in the base's unit, exact."""
    return base * percent / HUNDRED
