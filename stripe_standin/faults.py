"""Failures on demand: what Stripe, the network and webhooks do on a bad day.

Kinds for requests: `timeout_before` and `timeout_after` (the connection is held for `seconds`, then dropped without an
answer; the effect did not, or did, happen), `rate_limit` (429), `error` (500 without effect), `error_after` (500 after the
effect), `slow` (the answer comes after `seconds`). For webhooks: `webhook_lost`, `webhook_doubled`, `webhook_delayed`.
"""

import fnmatch
import random
import re
from dataclasses import asdict, dataclass
from typing import Any

REQUEST_KINDS = ("timeout_before", "timeout_after", "rate_limit", "error", "error_after", "slow")
WEBHOOK_KINDS = ("webhook_lost", "webhook_doubled", "webhook_delayed")


@dataclass
class Fault:
    """`times` is how often it still strikes (None: until cleared); `path` a regular expression; `type` a glob of event types."""

    id: int
    kind: str
    method: str = ""
    path: str = ""
    type: str = "*"
    times: int | None = 1
    seconds: float = 0
    chance: float = 1.0
    struck: int = 0


class Faults:
    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._made = 0
        self._dice = random.Random(7)  # noqa: S311 - repeatable on purpose
        self.counters: dict[str, int] = {}

    def add(self, wanted: dict[str, Any]) -> Fault:
        known = {
            key: wanted[key]
            for key in ("kind", "method", "path", "type", "times", "seconds", "chance")
            if key in wanted
        }
        if known.get("kind") not in (*REQUEST_KINDS, *WEBHOOK_KINDS):
            raise ValueError(f"kind must be one of {', '.join((*REQUEST_KINDS, *WEBHOOK_KINDS))}")
        if unknown := set(wanted) - set(known):
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        self._made += 1
        fault = Fault(id=self._made, **known)
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        self._faults.clear()

    def listed(self) -> dict[str, Any]:
        return {"faults": [asdict(fault) for fault in self._faults], "counters": self.counters}

    def for_request(self, method: str, path: str) -> Fault | None:
        return self._strike(
            lambda fault: (
                fault.kind in REQUEST_KINDS
                and fault.method in ("", method)
                and re.search(fault.path, path) is not None
            )
        )

    def for_webhook(self, event_type: str) -> Fault | None:
        return self._strike(
            lambda fault: fault.kind in WEBHOOK_KINDS and fnmatch.fnmatch(event_type, fault.type)
        )

    def _strike(self, matches: Any) -> Fault | None:
        for fault in self._faults:
            if fault.times == 0 or not matches(fault) or self._dice.random() >= fault.chance:
                continue
            if fault.times is not None:
                fault.times -= 1
            fault.struck += 1
            self.counters[fault.kind] = self.counters.get(fault.kind, 0) + 1
            return fault
        return None
