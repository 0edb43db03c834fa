"""Limits as people read them: on pages, in files and in refusals."""

from plans.models import Counted, LimitScope, RateLimit


def limit_words(limit: RateLimit) -> str:
    """The limit as pages and refusals call it: `10 calls a minute`, `5 calls at once on places/v1/search`."""
    return f"{_counted_words(limit)} {_window_words(limit.window_seconds)}{_scope_words(limit)}"


_WINDOWS = {
    1: "a second",
    60: "a minute",
    3_600: "an hour",
    86_400: "a day",
    604_800: "a week",
    2_592_000: "in 30 days",
}
_NOUNS = {
    Counted.CALLS: ("call", "calls"),
    Counted.CONCURRENCY: ("call", "calls"),
    Counted.TOKENS: ("token", "tokens"),
    Counted.INPUT_TOKENS: ("token of prompts", "tokens of prompts"),
    Counted.OUTPUT_TOKENS: ("token of answers", "tokens of answers"),
}


def _counted_words(limit: RateLimit) -> str:
    many = f"{limit.calls.normalize():,f}"
    if limit.meter is not None:
        return f"{many} {limit.meter.unit} of {limit.meter.name}"
    return f"{many} {_NOUNS[Counted(limit.measure)][limit.calls != 1]}"


def _window_words(seconds: int) -> str:
    return "at the same time" if not seconds else _WINDOWS.get(seconds, f"in {seconds:,} seconds")


def _scope_words(limit: RateLimit) -> str:
    if limit.scope == LimitScope.KEY:
        return " with each key"
    if limit.route is not None:
        return f" on {limit.route}"
    return f" with {limit.model}" if limit.model is not None else ""
