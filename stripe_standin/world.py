"""One stand-in: what it stores, what time it is, whom it tells, and how it has been told to misbehave."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from stripe_standin.errors import invalid
from stripe_standin.faults import Faults
from stripe_standin.hooks import Hooks
from stripe_standin.params import Params
from stripe_standin.render import listing, shown
from stripe_standin.store import Obj, Store

API_VERSION = "2026-05-27.dahlia"
DAY = 86_400
Judge = Callable[[str, str, str, str, int, Any], list[str]]


@dataclass
class Settings:
    """What an account chooses in Stripe's dashboard. Times in seconds unless named otherwise."""

    retry_days: list[int] = field(default_factory=lambda: [1, 3, 5, 7])  # days after the first failure
    after_retries: str = "cancel"  # or "unpaid", "past_due"
    draft_seconds: int = 3600  # a renewal's invoice stays a draft for so long
    upcoming_days: int = 7
    trial_ending_days: int = 3
    webhook_attempts: int = 8
    webhook_backoff: float = 0.25  # real seconds before the second attempt; doubles
    usage_lag: int = 0  # real seconds before meter events are seen in summaries and invoices


def _made(obj: Obj) -> int:
    """Items of invoices alone have a `date` instead; Stripe's filter has one name for all."""
    return int(obj["created"] if "created" in obj else obj["date"])


class World:
    """Everything behind one port. Use it only while holding `lock`."""

    def __init__(self, *, deterministic: bool = False, judge: Judge | None = None) -> None:
        self.lock = threading.RLock()
        self.store = Store(deterministic=deterministic)
        self.settings = Settings()
        self.faults = Faults()
        self.hooks = Hooks(self)
        self.judge = judge
        self.violations: list[str] = []
        self.requests: dict[str, int] = {}
        self.request: Obj = {"id": None, "idempotency_key": None}
        self.busy: set[str] = set()  # meters and customers whose event is being taken
        self.base = ""  # address of this server, for the pages' links

    # Time -------------------------------------------------------------------------------------------------------

    @property
    def offset(self) -> int:
        return int(self.store.table("_clock").get("offset", 0))

    def now(self, timeline: str | None = None) -> int:
        """Seconds since 1970 on a test clock, or (None) on the clock of everything else, which control can push ahead."""
        if timeline:
            clock = self.store.peek("test_helpers.test_clock", timeline)
            if clock:
                return int(clock.get("_now") or clock["frozen_time"])
        at = self.store.table("_clock").get("stepping")
        return int(at) if at else int(time.time()) + self.offset

    def timeline(self, customer: str | None) -> str | None:
        found = self.store.peek("customer", customer)
        return found["test_clock"] if found else None

    def now_for(self, customer: str | None) -> int:
        return self.now(self.timeline(customer))

    # Events -----------------------------------------------------------------------------------------------------

    def emit(self, kind: str, obj: Obj, *, previous: Obj | None = None) -> Obj:
        """Store an event about `obj` as it is now, and deliver it to the endpoints that asked for it."""
        data: Obj = {"object": shown(self, obj)}
        if previous is not None:
            data["previous_attributes"] = previous
        made = {
            "id": self.store.new_id("evt"),
            "object": "event",
            "api_version": API_VERSION,
            "created": self.now(self._timeline_of(obj)),
            "data": data,
            "livemode": False,
            "pending_webhooks": 0,
            "request": dict(self.request),
            "type": kind,
        }
        self.store.add(made)
        if self.judge:
            self.violations += self.judge("GET", f"/v1/events/{made['id']}", "", "", 200, made)
        self.hooks.send(made)
        return made

    def _timeline_of(self, obj: Obj) -> str | None:
        customer = obj["id"] if obj.get("object") == "customer" else obj.get("customer")
        return self.timeline(customer if isinstance(customer, str) else None)

    @contextmanager
    def updating(self, obj: Obj, kind: str) -> Iterator[Obj]:
        """Emit `kind` with the previous attributes when the block changed what is shown of `obj`."""
        before = shown(self, obj)
        yield obj
        after = shown(self, obj)
        changed = {key: before.get(key) for key in after if before.get(key) != after.get(key)}
        if changed:
            self.emit(kind, obj, previous=changed)

    # Lists ------------------------------------------------------------------------------------------------------

    def page(self, url: str, objects: list[Obj], params: Params) -> Obj:
        """One page of `objects` (oldest first as stored; answered newest first) by Stripe's cursors."""
        limit = params.number("limit", 10) or 0
        if not 1 <= limit <= 100:
            raise invalid("Limit must be between 1 and 100.", param="limit", code="parameter_invalid_integer")
        newest = objects[::-1]
        places = {obj["id"]: index for index, obj in enumerate(newest)}
        after, before = params.text("starting_after"), params.text("ending_before")
        for name, cursor in (("starting_after", after), ("ending_before", before)):
            if cursor and cursor not in places:
                raise invalid(f"No such object: '{cursor}'", param=name, code="resource_missing")
        if before:
            head = newest[: places[before]]
            return listing(url, head[-limit:], more=len(head) > limit)
        tail = newest[places[after] + 1 :] if after else newest
        return listing(url, tail[:limit], more=len(tail) > limit)

    def created_within(self, objects: list[Obj], params: Params, field_name: str = "created") -> list[Obj]:
        """The `created` filter: an exact second or {gt, gte, lt, lte}."""
        if field_name not in params:
            return objects
        if not isinstance(params.raw(field_name), dict):
            exact = params.number(field_name)
            return [obj for obj in objects if _made(obj) == exact]
        bounds = params.sub(field_name)
        gt, gte, lt, lte = (bounds.number(name) for name in ("gt", "gte", "lt", "lte"))
        return [
            obj
            for obj in objects
            if (gt is None or _made(obj) > gt)
            and (gte is None or _made(obj) >= gte)
            and (lt is None or _made(obj) < lt)
            and (lte is None or _made(obj) <= lte)
        ]

    def filtered(self, kind: str, params: Params, *names: str) -> list[Obj]:
        """All of `kind` that match the plain filters sent, oldest first."""
        wanted: Obj = {}
        for name in names:
            if name in params:
                wanted[name] = params.flag(name) if name in ("active",) else params.text(name)
        return self.created_within(list(self.store.where(kind, **wanted)), params)
