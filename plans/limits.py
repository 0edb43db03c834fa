"""The limits of one organization: its plan's, with what was agreed (overrides) in their place."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from plans.door import smallest_units
from plans.models import Counted, LimitScope, Override, OverrideKind, PlanVersion, RateLimit


@dataclass(frozen=True, slots=True)
class LimitRule:
    """At most `limit` of what `measure` names in any `seconds` (0: at the same time); of units, smallest units of the meter."""

    scope: str = LimitScope.ORGANIZATION
    measure: str = Counted.CALLS
    seconds: int = 60
    limit: int = 0
    route_id: int = 0
    model_id: int = 0
    model: str = ""
    meter_id: int = 0
    meter: str = ""
    place: str = field(default="", compare=False)  # its route or model, as people call it

    @property
    def subject(self) -> "LimitRule":
        """The same without its number: two rules about one thing have the same subject."""
        return replace(self, limit=0)

    @property
    def is_plain(self) -> bool:
        """Calls of the whole organization."""
        return self.scope == LimitScope.ORGANIZATION and self.measure == Counted.CALLS

    @property
    def is_of_all_tokens(self) -> bool:
        """Tokens of the whole organization."""
        return self.scope == LimitScope.ORGANIZATION and self.measure == Counted.TOKENS


def plan_rules(version: PlanVersion) -> tuple[LimitRule, ...]:
    """What a plan version limits; of limits that are not of the organization with the row's model and meter (LIMIT_ROWS)."""
    return tuple(_rule(row) for row in version.rate_limits.all())


def agreed_rules(rules: Iterable[LimitRule], overrides: Iterable[Override]) -> tuple[LimitRule, ...]:
    """The same with overrides (the newest first) in the place of rules about the same thing; the others are added."""
    found = {rule.subject: rule for rule in rules}
    newest = {_agreed(override).subject: _agreed(override) for override in _newest_last(overrides)}
    return tuple((found | newest).values())


def _newest_last(overrides: Iterable[Override]) -> list[Override]:
    return [o for o in reversed([*overrides]) if is_limit(o) and o.amount is not None]


def is_limit(override: Override) -> bool:
    """Whether it is about a rate limit or calls at the same time; that of the whole organization is the plan's own field."""
    if override.kind == OverrideKind.CONCURRENCY:
        return override.scope != LimitScope.ORGANIZATION
    return override.kind == OverrideKind.RATE_LIMIT


def _rule(row: RateLimit) -> LimitRule:
    return LimitRule(
        scope=row.scope,
        measure=row.measure,
        seconds=row.window_seconds,
        limit=smallest_units(row.calls, row.meter.decimals) if row.meter is not None else int(row.calls),
        route_id=row.route_id or 0,
        model_id=row.model_id or 0,
        model=row.model.name if row.model is not None else "",
        meter_id=row.meter_id or 0,
        meter=row.meter.slug if row.meter is not None else "",
        place=str(row.route or row.model or ""),
    )


def _agreed(override: Override) -> LimitRule:
    return _rule(as_limit(override))


def as_limit(override: Override) -> RateLimit:
    """An override of a limit as the row that a plan would have."""
    is_window = override.kind == OverrideKind.RATE_LIMIT
    return RateLimit(
        scope=override.scope,
        route=override.route,
        model=override.model,
        calls=override.amount or 0,
        measure=override.measure if is_window else Counted.CONCURRENCY,
        meter=override.meter,
        window_seconds=override.window_seconds or 0,
    )
