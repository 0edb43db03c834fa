"""Requests, a shard's contents, and scripts that run in a test's own time."""

from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

import redis

from core.ids import new_nonce
from core.redis_layout import organization_key, shard_key, usage_key
from metering.calls import Admission
from metering.engine import Engine
from metering.script_calls import Call
from metering.scripts import Script, build_script

SHARD, ORG, PERIOD, METER, KEY = 17, 501, 7, 2, 40
FOREVER = 9_000_000_000_000_000
TOLD_CLOCK = "local function clock() return tonumber(table.remove(ARGV)) end"  # the last argument, which the script never sees
USAGE = usage_key(SHARD, ORG, "live", PERIOD)
T = TypeVar("T")


def make_admission(**changes: Any) -> Admission:
    """A call that passes unless the changes say otherwise."""
    values: dict[str, Any] = {
        "shard": SHARD, "org_id": ORG, "mode": "live", "version": 3, "span_start_us": 0, "span_end_us": FOREVER,
        "period_id": PERIOD, "quota": -1, "meter_id": METER, "units": 1, "windows": (), "key_id": KEY,
        "key_windows": (), "nonce": new_nonce(),
    }  # fmt: skip
    return Admission(**values | changes)


def open_organization(
    client: "redis.Redis", *, org_id: int = ORG, version: int = 3, epoch: str = "epoch"
) -> None:
    """The state that signing up pushes."""
    client.hset(organization_key(SHARD, org_id), "v", str(version))
    client.hset(shard_key(SHARD), "epoch", epoch)


def counters(client: "redis.Redis", key: str = USAGE, meter: int | str = METER) -> tuple[int, int]:
    """Settled and reserved units."""
    settled, reserved = client.hmget(key, str(meter), f"r{meter}")
    return int(settled or 0), int(reserved or 0)


def run_at(engine: Engine, call: Call[T], now_us: int) -> T:
    """Run a call as if the server's clock said so."""
    return engine.run(told(call, now_us))


def told(call: Call[T], now_us: int) -> Call[T]:
    """The same call in the test's own time: the clock's part of the script reads the last argument."""
    return replace(call, script=_told_script(call.script.name), args=[*call.args, str(now_us)])


@cache
def _told_script(name: str) -> Script:
    return build_script(name, clock=TOLD_CLOCK)


def everything(client: "redis.Redis") -> dict[bytes, bytes | None]:
    """All keys and their contents, to show that nothing moved."""
    return {key: client.dump(key) for key in client.keys("*")}
