"""The private controls, JSON in and out: `/_standin/...`. The real Stripe has nothing like them.

GET  health, faults, violations, requests, hooks, settings
POST faults {kind, method, path, type, times, seconds, chance} · DELETE faults, violations
POST settings {name: value} · POST reset · POST clock/advance {seconds} or {to} · POST hooks/wait {seconds}
· POST end-period {subscription, at} · POST refund/fail {refund} · POST dispute/close {dispute, status: won or lost}
POST hooks/resend {event}
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from stripe_standin import clock
from stripe_standin.planning import items_of
from stripe_standin.world import Settings, World

Answer = tuple[int, Any]


def answer(world: World, method: str, path: str, body: str) -> Answer:
    action = _ACTIONS.get((method, path.removeprefix("/_standin").strip("/")))
    if action is None:
        return 404, {"error": "unknown control"}
    try:
        sent = json.loads(body) if body else {}
        return 200, action(world, sent)
    except (ValueError, TypeError) as error:
        return 400, {"error": str(error)}


def _health(world: World, sent: Any) -> Any:
    return {"ok": True, "now": world.now(), "webhooks_pending": world.hooks.pending}


def _faults(world: World, sent: Any) -> Any:
    return world.faults.listed()


def _add_fault(world: World, sent: Any) -> Any:
    with world.lock:
        return asdict(world.faults.add(sent))


def _clear_faults(world: World, sent: Any) -> Any:
    with world.lock:
        world.faults.clear()
    return world.faults.listed()


def _violations(world: World, sent: Any) -> Any:
    return {"violations": world.violations, "judged": world.judge is not None}


def _forgive(world: World, sent: Any) -> Any:
    with world.lock:
        world.violations.clear()
    return {"violations": []}


def _requests(world: World, sent: Any) -> Any:
    return world.requests


def _hooks(world: World, sent: Any) -> Any:
    return {"counters": world.hooks.counters, "pending": world.hooks.pending, "log": world.hooks.log}


def _wait_hooks(world: World, sent: Any) -> Any:
    return {"idle": world.hooks.wait(float(sent.get("seconds", 10))), "pending": world.hooks.pending}


def _resend(world: World, sent: Any) -> Any:
    """Deliver an event once more, as the dashboard's "Resend" does."""
    with world.lock:
        event = world.store.peek("event", sent.get("event"))
        if event is None:
            raise ValueError("no such event")
        world.hooks.send(event)
    return {"ok": True}


def _settings(world: World, sent: Any) -> Any:
    if unknown := set(sent) - set(asdict(Settings())):
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    for name, value in sent.items():
        setattr(world.settings, name, value)
    return asdict(world.settings)


def _reset(world: World, sent: Any) -> Any:
    """Forget everything but the endpoints given on the command line."""
    with world.lock:
        kept = [each for each in world.store.where("webhook_endpoint") if each.get("_given")]
        world.store.clear()
        for endpoint in kept:
            world.store.add(endpoint)
        world.faults.clear()
        world.violations.clear()
        world.requests.clear()
        world.settings = Settings()
    return {"ok": True}


def _advance(world: World, sent: Any) -> Any:
    """Move the clock of everything without a test clock, doing what falls due on the way."""
    to = int(sent["to"]) if "to" in sent else world.now() + int(sent["seconds"])
    clock.advance_wall(world, to)
    return {"now": world.now()}


def _end_period(world: World, sent: Any) -> Any:
    """Let the present period of a subscription end at a second near by: {subscription, at}. Its months run from there on."""
    with world.lock:
        subscription, at = world.store.get("subscription", str(sent["subscription"])), int(sent["at"])
        for item in items_of(world, subscription):
            item["current_period_end"] = at
        subscription["billing_cycle_anchor"] = at
        if subscription["status"] == "trialing":
            subscription["trial_end"] = at
        world.store.dirty = True
    return {"now": world.now()}


def _fail_refund(world: World, sent: Any) -> Any:
    """The bank sends the money of a refund back."""
    with world.lock:
        refund = world.store.get("refund", str(sent["refund"]))
        with world.updating(refund, "refund.updated"):
            refund |= {"status": "failed", "failure_reason": "expired_or_canceled_card"}
        world.emit("refund.failed", refund)
    return {"ok": True}


def _close_dispute(world: World, sent: Any) -> Any:
    """The bank decides."""
    status = str(sent["status"])
    if status not in ("won", "lost"):
        raise ValueError("status must be won or lost")
    with world.lock:
        dispute = world.store.get("dispute", str(sent["dispute"]))
        dispute["status"] = status
        world.emit("charge.dispute.closed", dispute)
    return {"ok": True}


_ACTIONS: dict[tuple[str, str], Callable[[World, Any], Any]] = {
    ("GET", "health"): _health,
    ("GET", "faults"): _faults,
    ("POST", "faults"): _add_fault,
    ("DELETE", "faults"): _clear_faults,
    ("GET", "violations"): _violations,
    ("DELETE", "violations"): _forgive,
    ("GET", "requests"): _requests,
    ("GET", "hooks"): _hooks,
    ("POST", "hooks/wait"): _wait_hooks,
    ("POST", "hooks/resend"): _resend,
    ("GET", "settings"): _settings,
    ("POST", "settings"): _settings,
    ("POST", "reset"): _reset,
    ("POST", "clock/advance"): _advance,
    ("POST", "end-period"): _end_period,
    ("POST", "refund/fail"): _fail_refund,
    ("POST", "dispute/close"): _close_dispute,
}
