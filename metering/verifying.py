"""Asking the door without going through it: what admission would say now, and calls that are over when they are asked for.

One script does both (metering/scripts/verify.lua): it runs the very admission of the other doors, without a trace or, with
a charge, settled in the same step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
from metering.script_calls import Call, admit_args, parse_admission
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
    marker = settled_key(request.shard, request.reservation.nonce)
    return _call(request, marker, ["0", "", "", ""], is_charge=False)


def charge_call(request: Admission, charge: Charge) -> Call[Verified]:
    """The call that admits and settles at once, one time for the charge's id."""
    head, _, rest = charge.event.to_json().partition(_NO_TIME)
    middle, _, tail = rest.partition(b'"at":0')
    claim = claim_key(request.shard, request.org_id, charge.claim)
    return _call(request, claim, [str(CLAIM_LIFE_MS), head, middle + b'"at":', tail], is_charge=True)


def _call(request: Admission, claim: str, own: Sequence[str | bytes], *, is_charge: bool) -> Call[Verified]:
    keys, args = admit_args(request)
    names = [stream_key(request.shard), settled_key(request.shard, request.reservation.nonce), claim]
    return Call(
        script("verify"), [*names, *keys], [*own, *args], lambda reply: _parse(request, reply, is_charge=is_charge)
    )  # fmt: skip


def _parse(request: Admission, reply: Any, *, is_charge: bool) -> Verified:
    is_known = reply[-1] == b"KNOWN"
    answer = parse_admission(request, reply[:-1] if is_known else reply)
    if isinstance(answer, Admitted) and (is_known or not is_charge):
        answer = _without_the_call(answer, request.units)
    return Verified(answer, is_known)


def _without_the_call(a: Admitted, units: int) -> Admitted:
    """The admission would have counted the call that nobody made."""
    quota = a.quota and QuotaState(a.quota.limit, a.quota.remaining + units, a.quota.reset_s)
    windows = tuple(_with_one_more(window) for window in a.windows)
    return Admitted(a.occurred_at_us, a.event_id, a.nonce, a.epoch, a.used - units, windows, quota)


def _with_one_more(w: WindowState) -> WindowState:
    remaining = w.remaining + 1
    return WindowState(w.seconds, w.limit, remaining, 0 if remaining == w.limit else w.reset_s, w.of_key)
