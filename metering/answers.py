"""What doors answer: refusals as facts, and the headers that tell a caller what is left. Pure, shared by all doors.

Header names: draft-ietf-httpapi-ratelimit-headers (`RateLimit`, `RateLimit-Policy`) and the common `X-RateLimit-*`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from core.errors import problem
from metering.calls import Admitted, QuotaState, Refused, WindowState

_WINDOW_NAMES = {1: "second", 60: "minute", 3600: "hour", 86_400: "day", 2_592_000: "month"}
Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that is not let through, or not answered by the upstream. `counted`: is part of the refusals that the
    organization sees (those of the admission script are counted by the script itself)."""

    code: str
    status: int
    title: str
    detail: str
    headers: Headers = field(default_factory=list)
    counted: bool = False
    windows: tuple[WindowState, ...] = ()  # what is left, for headers that only some routes have
    at_us: int = 0

    def body(self, *, request_id: str, instance: str, docs_url: str) -> dict[str, object]:
        """The problem document."""
        return problem(
            code=self.code,
            status=self.status,
            title=self.title,
            detail=self.detail,
            request_id=request_id,
            instance=instance,
            docs_url=docs_url,
        )


_RETRY_SOON: Headers = [("Retry-After", "5")]
_NO_RETRY: Headers = [("x-should-retry", "false")]
_BEARER: Headers = [("WWW-Authenticate", 'Bearer realm="farebox"')]

MISSING_KEY = Refusal(
    "missing_key",
    401,
    "No API key",
    "Send your key as `Authorization: Bearer KEY` or as `X-API-Key`.",
    _BEARER,
)
# One body for unknown, malformed and revoked keys: nobody learns which of them a guess was.
INVALID_KEY = Refusal(
    "invalid_key", 401, "This API key is not valid", "It is unknown, mistyped or revoked.", _BEARER
)
KEY_EXPIRED = Refusal(
    "key_expired",
    401,
    "This API key has expired",
    "Issue a new key in the portal.",
    _BEARER,
    counted=True,
)
KEY_UNKNOWN_NOW = Refusal(
    "key_lookup_unavailable", 503, "This key cannot be checked now", "Try again in some seconds. Nothing was charged.",
    _RETRY_SOON,
)  # fmt: skip
TOO_MANY_UNKNOWN = Refusal(
    "too_many_unknown_keys", 429, "Too many unknown keys from this address", "Wait a minute, then use a valid key.",
    [("Retry-After", "60")],
)  # fmt: skip
METERING_UNAVAILABLE = Refusal(
    "metering_unavailable", 503, "Metering is unavailable", "The call was not let through and nothing was charged.",
    _RETRY_SOON,
)  # fmt: skip
NOT_ON_SALE = Refusal(
    "not_found", 404, "There is no such product or route", "Compare the path with the quick start."
)
LARGER_THAN_LIMIT = Refusal(
    "request_larger_than_limit", 429, "The call is larger than a limit", "It counts as more than the limit allows at once.",
    _NO_RETRY,
)  # fmt: skip
OUT_OF_SCOPE = Refusal(
    "out_of_scope", 403, "This key may not call this route", "Its scopes do not include it.", counted=True
)
FEATURE_NOT_IN_PLAN = Refusal(
    "feature_not_in_plan", 403, "Your plan does not include this route", "Change to a plan that includes it.",
    counted=True,
)  # fmt: skip

_CLOSED = {
    "suspended": ("This organization is suspended", "Write to support."),
    "trial_over": ("The trial is over", "Choose a plan in the portal; Free needs no payment."),
    "subscription_cancelled": ("The subscription has ended", "Choose a plan in the portal to go on."),
    "payment_required": (
        "A payment is overdue",
        "Pay the open invoice in the portal, under Invoices, to go on.",
    ),
    "subscription_paused": (
        "The subscription is paused",
        "Add a payment method in the portal to go on; where there is one, write to support.",
    ),
}
_LIMITED = {
    "rate_limited": (
        "Too many calls",
        "Your plan's rate limit is reached. Wait as long as Retry-After says.",
    ),
    "key_rate_limited": ("Too many calls with this key", "The key's own rate limit is reached."),
    "route_rate_limited": (
        "Too many calls to this route",
        "Your plan's limit for this route is reached. Other routes are not concerned.",
    ),
    "model_rate_limited": (
        "Too many calls to this model",
        "Your plan's limit for this model is reached. Other models are not concerned.",
    ),
    "unit_rate_limited": (
        "Too much usage at once",
        "Your plan's limit of usage in a window of time is reached. Wait as long as Retry-After says.",
    ),
    "quota_exceeded": ("The quota of this period is used", "Change the plan, or wait for the next period."),
    "token_rate_limited": (
        "Too many tokens",
        "Your plan's limit of tokens is reached. Wait as long as Retry-After says.",
    ),
    "daily_token_limit_reached": (
        "The tokens of this day are used",
        "Your organization's limit of tokens per day (UTC) is reached. It begins anew at midnight.",
    ),
    "concurrency_limited": ("Too many calls at once", "Wait until one of your open calls has ended."),
    "key_concurrency_limited": (
        "Too many calls at once with this key",
        "Wait until one of the key's open calls has ended.",
    ),
    "route_concurrency_limited": (
        "Too many calls at once to this route",
        "Wait until one of your open calls to it has ended.",
    ),
    "model_concurrency_limited": (
        "Too many calls at once to this model",
        "Wait until one of your open calls to it has ended.",
    ),
    "spend_cap_reached": (
        "The spend cap of this period is reached",
        "This call would cost more than the cap allows. Raise the cap in the portal, or wait for the next period.",
    ),
    "blocked_by_alert": (
        "Calls are blocked by an alert",
        "One of your alerts blocks calls for the rest of this period. Change it in the portal.",
    ),
    "trial_quota_reached": ("The trial's included quantity is used", "Choose a plan in the portal to go on."),
}
# SDKs wait at most a minute when they are told to, and past it come back at once, in vain; a window of a minute rounds up.
LONGEST_WAIT_SECONDS = 61
# A client that retries by itself would only be refused again.
_NOT_BY_WAITING = (
    "quota_exceeded",
    "trial_quota_reached",
    "spend_cap_reached",
    "blocked_by_alert",
    "daily_token_limit_reached",
)


def closed_door(code: str) -> Refusal:
    """402: the organization's door is closed, with the door table's code."""
    title, detail = _CLOSED.get(code, _CLOSED["payment_required"])
    return Refusal(code, 402, title, detail, [*_NO_RETRY])


def limited(answer: Refused) -> Refusal:
    """What the admission script refused: 429 for limits and quotas, 402 for a door that closed meanwhile."""
    if answer.code not in _LIMITED:
        return closed_door(answer.code)
    title, detail = _LIMITED[answer.code]
    headers = rate_headers(answer.windows, answer.quota, answer.occurred_at_us)
    if answer.retry_after_s:
        headers.append(("Retry-After", str(answer.retry_after_s)))
    if answer.code in _NOT_BY_WAITING or answer.retry_after_s > LONGEST_WAIT_SECONDS:
        headers += _NO_RETRY
    return Refusal(
        answer.code, 429, title, detail, headers, windows=answer.windows, at_us=answer.occurred_at_us
    )


def admitted_headers(answer: Admitted) -> Headers:
    """What is left after an admitted call."""
    return rate_headers(answer.windows, answer.quota, answer.occurred_at_us)


def rate_headers(windows: Sequence[WindowState], quota: QuotaState | None, at_us: int) -> Headers:
    """`RateLimit-Policy` names every limit, `RateLimit` the nearest, of whatever it counts; `X-RateLimit-Reset` is in seconds
    from now."""
    if not windows:
        return []
    policies = [f'"{label(w)}";q={w.limit};w={w.seconds}{_unit(w)}' for w in windows]
    if quota is not None:
        policies.append(f'"period";q={quota.limit};w={quota.reset_s}')
    near = nearest(windows)
    reset_s = min(near.reset_s, near.seconds)  # a begun bucket of the window rounds up past it
    return [
        ("RateLimit-Policy", ", ".join(policies)),
        ("RateLimit", f'"{label(near)}";r={near.remaining};t={reset_s}'),
        ("X-RateLimit-Limit", str(near.limit)),
        ("X-RateLimit-Remaining", str(near.remaining)),
        ("X-RateLimit-Reset", str(reset_s)),
    ]


def nearest(windows: Sequence[WindowState]) -> WindowState:
    """The limit that will be reached first: least left as a share of it (compared without division)."""
    best = windows[0]
    for window in windows[1:]:
        if window.remaining * best.limit < best.remaining * window.limit:
            best = window
    return best


def counted_by(window: WindowState) -> str:
    """What a window counts: `calls`, `tokens`, `input_tokens`, `output_tokens`, or a meter's slug."""
    return scope_and_measure(window.name)[1]


def scope_of(window: WindowState) -> str:
    """Whose calls it counts: `organization`, `key`, `route` or `model`."""
    return "key" if window.of_key else scope_and_measure(window.name)[0]


def label(window: WindowState) -> str:
    """Its name in headers: `minute`, `key-minute`, `route-tokens-hour`; a call sees one route and one model, so no ids."""
    return _label("key:" if window.of_key else window.name, window.seconds)


@lru_cache(maxsize=10_000)
def scope_and_measure(name: str) -> tuple[str, str]:
    """(scope, what is counted) of a window's name (keys/limits.py): `route:12:tokens`, `units:gb`."""
    scope, _, rest = name.partition(":")
    if scope in ("key", "route", "model"):
        what = rest.partition(":")[2]
    else:
        scope, what = "organization", name
    return scope, what.removeprefix("units:") or "calls"


@lru_cache(maxsize=10_000)
def _label(name: str, seconds: int) -> str:
    scope, what = scope_and_measure(name)
    parts = ["" if scope == "organization" else scope, "" if what == "calls" else what]
    window = _WINDOW_NAMES.get(seconds, f"{seconds}s")
    return "-".join(part.replace("_", "-") for part in (*parts, window) if part)


def _unit(window: WindowState) -> str:
    """The draft's unit of a quota, where it is not one of requests."""
    return "" if not window.name or (what := counted_by(window)) == "calls" else f';qu="{what}"'
