"""What one call weighs in the limits of its key: the windows and counters that depend on its route, its model and its size."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from keys.limits import CallLimits, ScopedWindow
from metering.calls import NO_QUOTA, Admission, Charge, Weighted
from plans.models import Counted

TOKENS_OF_THE_DAY = 0  # counter of all tokens of a day, whatever their meter
DAY_CODE = "daily_token_limit_reached"


@dataclass(frozen=True, slots=True)
class Weights:
    """What a call counts as: tokens (None: it counts none), and smallest units by meter id."""

    tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    units: Mapping[int, int] = field(default_factory=dict)

    def of(self, window: ScopedWindow) -> int | None:
        """The weight in this window; None: it is not counted there."""
        match window.measure:
            case Counted.CALLS:
                return 1
            case Counted.UNITS:
                return self.units.get(window.meter_id)
            case Counted.TOKENS:
                return self.tokens
            case Counted.INPUT_TOKENS:
                return self.input_tokens
        return self.output_tokens


def hold(
    request: Admission, limits: CallLimits, weights: Weights, *, route_id: int, model: str = ""
) -> Admission:
    """The admission with everything that these limits hold it against."""
    day = limits.day_tokens
    daily = [Charge(one.name, 1, one.limit, one.code) for one in limits.opened(route_id, model)]
    if day is not None and weights.tokens is not None:
        daily = [Charge(TOKENS_OF_THE_DAY, weights.tokens, day.limit, DAY_CODE), *daily]
    return replace(
        request, daily=tuple(daily), weighted=weighted(limits, weights, route_id=route_id, model=model)
    )


def hold_plain(request: Admission, limits: CallLimits, *, route_id: int) -> Admission:
    """The same for a call whose size is known: its own units, which are tokens where its meter counts them."""
    return hold(request, limits, _plain_weights(request, limits), route_id=route_id)


def weighted(limits: CallLimits, weights: Weights, *, route_id: int, model: str = "") -> tuple[Weighted, ...]:
    """The windows of a call with its weight in each; those that it does not count in are left out."""
    found = ((window, weights.of(window)) for window in limits.windows(route_id, model))
    return tuple(Weighted(w.name, w.seconds, w.limit, n, w.code) for w, n in found if n is not None)


def never_fits(request: Admission) -> bool:
    """Whether the call is larger than a limit by itself: no waiting helps."""
    too_heavy = any(w.weight > w.limit for w in request.weighted)
    return too_heavy or any(0 <= c.quota < c.units for c in request.daily)


def tokens_of(limits: CallLimits | None, meter_id: int, units: int) -> int | None:
    """How many tokens units of this meter are, a begun one counting whole; None where they are none, or nobody asks."""
    decimals = limits.token_meters.get(meter_id) if limits is not None else None
    return None if decimals is None else -(-units // 10**decimals)


def more_of(request: Admission, limits: CallLimits | None, units: int) -> tuple[Charge, ...]:
    """What so many units more of an open call add beside its period: tokens of the day, no other place."""
    tokens = tokens_of(limits, request.meter_id, units) or 0
    return tuple(replace(c, units=0 if isinstance(c.meter_id, str) else tokens) for c in request.daily)


def nothing_more(request: Admission) -> tuple[Charge, ...]:
    """What goes on from a call that is counted already: it keeps its place, whatever the limit, and has used no tokens yet."""
    return tuple(
        replace(c, quota=NO_QUOTA) if isinstance(c.meter_id, str) else replace(c, units=0)
        for c in request.daily
    )


def _plain_weights(request: Admission, limits: CallLimits) -> Weights:
    tokens = tokens_of(limits, request.meter_id, request.units)
    return Weights(tokens, units={request.meter_id: request.units})
