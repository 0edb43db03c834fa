"""Asking the door without going through it: what admission would say now, and calls that are over when they are asked for.

Both run the very admission of the other doors: without a trace (metering/scripts/look.lua) or settled in the same step
(metering/scripts/verify.lua).
"""

from dataclasses import dataclass, replace
from typing import Any

from core.redis_layout import claim_key, settled_key, stream_key
from metering.calls import (
    CLAIM_LIFE_MS,
    Admission,
    AdmitAnswer,
    Admitted,
    QuotaState,
    WindowState,
    claim_digest,
)
from metering.events import Event
from metering.script_calls import Call, admit_args, parse_admission, window_rules
from metering.scripts import script

SOURCE = "verify"
_NO_TIME = b"00000000-0000"  # the first half of an id that was made at 1970


@dataclass(frozen=True, slots=True)
class Charge:
    """A call to be recorded with the decision. `event` is dated 1970: the script writes its own time into it."""

    event: Event

    @property
    def claim(self) -> str:
        return claim_digest(SOURCE, self.event.external_id or "")


@dataclass(frozen=True, slots=True)
class Verified:
    """What the script said. `is_known`: this charge was made before, nothing was counted now."""

    answer: AdmitAnswer
    is_known: bool


def look_call(request: Admission) -> Call[Verified]:
    """The call that only looks. The answer's `remaining` and `used` are those of this moment, without the call."""
    keys, args = admit_args(request)
    return Call(script("look"), keys, args, lambda reply: Verified(_looked(request, reply), False))


def charge_call(request: Admission, charge: Charge) -> Call[Verified]:
    """The call that admits and settles at once, one time for the charge's id."""
    head, _, rest = charge.event.to_json().partition(_NO_TIME)
    middle, _, tail = rest.partition(b'"at":0')
    names = [
        stream_key(request.shard),
        settled_key(request.shard, request.reservation.nonce),
        claim_key(request.shard, request.org_id, charge.claim),
    ]
    own: list[str | bytes] = [str(CLAIM_LIFE_MS), head, middle + b'"at":', tail]
    keys, args = admit_args(request)
    return Call(script("verify"), [*names, *keys], [*own, *args], lambda reply: _charged(request, reply))


def _looked(request: Admission, reply: Any) -> AdmitAnswer:
    answer = parse_admission(request, reply)
    return _without_the_call(answer, request) if isinstance(answer, Admitted) else answer


def _charged(request: Admission, reply: Any) -> Verified:
    if reply[-1] == b"KNOWN":
        return Verified(_looked(request, reply[:-1]), True)
    return Verified(parse_admission(request, reply), False)


def _without_the_call(a: Admitted, request: Admission) -> Admitted:
    """The admission would have counted the call that nobody made."""
    units = request.units
    quota = a.quota and QuotaState(a.quota.limit, a.quota.remaining + units, a.quota.reset_s)
    windows = tuple(
        _without(state, w.weight) for state, w in zip(a.windows, window_rules(request), strict=True)
    )
    return Admitted(a.occurred_at_us, a.event_id, a.nonce, a.epoch, a.used - units, windows, quota)


def _without(w: WindowState, weight: int) -> WindowState:
    remaining = w.remaining + weight
    return replace(w, remaining=remaining, reset_s=0 if remaining == w.limit else w.reset_s)
