"""The limits of one key, ready for the door: names of windows and counters are made when the record is read, not per call.

Calls of the organization and of the key stand in the record itself; here is what only some plans have.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from plans.limits import LimitRule
from plans.models import OF_TOKENS, Counted, LimitScope
from plans.standing import DayTokens

T = TypeVar("T")
_CODES = {
    LimitScope.ORGANIZATION: "rate_limited",
    LimitScope.KEY: "key_rate_limited",
    LimitScope.ROUTE: "route_rate_limited",
    LimitScope.MODEL: "model_rate_limited",
}


@dataclass(frozen=True, slots=True)
class ScopedWindow:
    """At most `limit` of what `measure` names in any `seconds`; `name` tells its window from others of the organization."""

    name: str
    seconds: int
    limit: int
    measure: str
    code: str
    meter_id: int = 0
    place: str = field(default="", compare=False)  # its route or model, as people call it


@dataclass(frozen=True, slots=True)
class OpenLimit:
    """At most `limit` calls at the same time, counted under `name`."""

    name: str
    limit: int
    code: str


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Limits that depend on what a call is: its route, its model, its tokens. `token_meters`: decimals of the smallest unit by
    id of each meter whose units are tokens."""

    everywhere: tuple[ScopedWindow, ...] = ()
    of_routes: Mapping[int, tuple[ScopedWindow, ...]] = field(default_factory=dict)
    of_models: Mapping[str, tuple[ScopedWindow, ...]] = field(default_factory=dict)
    open_everywhere: tuple[OpenLimit, ...] = ()
    open_on_routes: Mapping[int, tuple[OpenLimit, ...]] = field(default_factory=dict)
    open_with_models: Mapping[str, tuple[OpenLimit, ...]] = field(default_factory=dict)
    token_meters: Mapping[int, int] = field(default_factory=dict)
    day_tokens: DayTokens | None = None

    def windows(self, route_id: int, model: str = "") -> tuple[ScopedWindow, ...]:
        """Those that a call to this route (and model) may count in."""
        found = self.everywhere + self.of_routes.get(route_id, ())
        return found + self.of_models.get(model, ()) if model else found

    def all_windows(self) -> tuple[ScopedWindow, ...]:
        """Those of every route and model."""
        places = (*self.of_routes.values(), *self.of_models.values())
        return sum(places, self.everywhere)

    def opened(self, route_id: int, model: str = "") -> tuple[OpenLimit, ...]:
        """Those that a call to this route (and model) is held against while it is open."""
        found = self.open_everywhere + self.open_on_routes.get(route_id, ())
        return found + self.open_with_models.get(model, ()) if model else found


def key_windows(rules: Iterable[LimitRule], own: int | None) -> tuple[tuple[int, int], ...]:
    """(seconds, calls) of one key: what its plan gives each key, narrowed by the key's own calls a minute."""
    found = {rule.seconds: rule.limit for rule in rules if _is_calls_of_key(rule)}
    if own:
        found[60] = min(own, found.get(60, own))
    return tuple(sorted(found.items()))


def call_limits(
    key_id: int,
    rules: Iterable[LimitRule],
    *,
    token_windows: Iterable[tuple[int, int]],
    token_meters: Iterable[tuple[int, int]],
    day_tokens: DayTokens | None,
) -> CallLimits | None:
    """The prepared limits of a key; None where there is nothing to ask about a call but its number."""
    rules = [rule for rule in rules if not _is_calls_of_key(rule)]
    of_all = [ScopedWindow("tokens", s, n, Counted.TOKENS, "token_rate_limited") for s, n in token_windows]
    if not rules and not of_all and day_tokens is None:
        return None
    windows = [(rule, _window(rule, key_id)) for rule in rules if rule.measure != Counted.CONCURRENCY]
    opened = [(rule, _open(rule, key_id)) for rule in rules if rule.measure == Counted.CONCURRENCY]
    return CallLimits(
        everywhere=(*of_all, *(w for r, w in windows if not r.route_id and not r.model)),
        of_routes=_by((r.route_id, w) for r, w in windows),
        of_models=_by((r.model, w) for r, w in windows),
        open_everywhere=tuple(o for r, o in opened if not r.route_id and not r.model),
        open_on_routes=_by((r.route_id, o) for r, o in opened),
        open_with_models=_by((r.model, o) for r, o in opened),
        token_meters=dict(token_meters),
        day_tokens=day_tokens,
    )


def _is_calls_of_key(rule: LimitRule) -> bool:
    return rule.scope == LimitScope.KEY and rule.measure == Counted.CALLS


def _by(pairs: Iterable[tuple[Any, T]]) -> dict[Any, tuple[T, ...]]:
    found: dict[Any, tuple[T, ...]] = {}
    for name, one in pairs:
        if name:
            found[name] = (*found.get(name, ()), one)
    return found


def _place(rule: LimitRule, key_id: int) -> str:
    """Where its calls are, for the name of a window; ids, because a model's name may hold any character."""
    ids = {LimitScope.KEY: key_id, LimitScope.ROUTE: rule.route_id, LimitScope.MODEL: rule.model_id}
    scope = LimitScope(rule.scope)
    return f"{scope}:{ids[scope]}" if scope in ids else ""


def _window(rule: LimitRule, key_id: int) -> ScopedWindow:
    what = {Counted.CALLS: "", Counted.UNITS: f"units:{rule.meter}"}.get(Counted(rule.measure), rule.measure)
    name = ":".join(part for part in (_place(rule, key_id), what) if part)
    code = _CODES[LimitScope(rule.scope)]
    if rule.measure != Counted.CALLS:
        code = "token_rate_limited" if rule.measure in OF_TOKENS else "unit_rate_limited"
    return ScopedWindow(name, rule.seconds, rule.limit, rule.measure, code, rule.meter_id, rule.place)


def _open(rule: LimitRule, key_id: int) -> OpenLimit:
    """Its counter starts with a letter (metering/scripts/charges.lua)."""
    return OpenLimit(_place(rule, key_id).replace(":", ""), rule.limit, f"{rule.scope}_concurrency_limited")
