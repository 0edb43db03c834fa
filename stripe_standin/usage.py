"""What meter events add up to, for a customer, a meter and a stretch of time."""

import time

from stripe_standin.store import Obj
from stripe_standin.world import World


def record(world: World, meter: Obj, customer: str, at: int, value: int, identifier: str) -> None:
    entries = world.store.table("_usage").setdefault(f"{meter['id']}|{customer}", [])
    entries.append({"at": at, "value": value, "identifier": identifier, "seen": time.time()})


def cancel(world: World, meter: Obj, identifier: str) -> bool:
    """Take an event out again. False when there is none by this identifier."""
    for name, entries in world.store.table("_usage").items():
        if name.startswith(f"{meter['id']}|"):
            kept = [entry for entry in entries if entry["identifier"] != identifier]
            if len(kept) < len(entries):
                entries[:] = kept
                return True
    return False


def quantity(world: World, meter_id: str, customer: str, start: int, end: int) -> int:
    """Events of `start` <= time < `end`, by the meter's formula."""
    meter = world.store.get("billing.meter", meter_id)
    seen_until = time.time() - world.settings.usage_lag
    entries = [
        entry
        for entry in world.store.table("_usage").get(f"{meter_id}|{customer}", [])
        if start <= entry["at"] < end and entry["seen"] <= seen_until
    ]
    formula = meter["default_aggregation"]["formula"]
    if formula == "count":
        return len(entries)
    if formula == "last":
        return int(max(entries, key=lambda entry: entry["at"])["value"]) if entries else 0
    return sum(int(entry["value"]) for entry in entries)
