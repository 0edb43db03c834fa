"""Server time of the scripts, by Redis' own `commandstats`, and round trips a second of the two clients.

    python benchmarks/scripts.py [redis address]      one figure a line: name value unit

The budget: admit at most 20 us, settle at most 13 us. Writes into shard 63 under a random organization and removes its keys.
"""

import asyncio
import os
import secrets
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from statistics import median

import redis
import redis.asyncio

sys.path.insert(0, str(Path(__file__).parent.parent))

from core.ids import event_id, new_nonce
from core.redis_layout import _prefix, organization_key, shard_key
from core.redis_loop import LoopPipeline
from metering.calls import Admission, AdmitAnswer, Settled, Settlement
from metering.events import Event
from metering.script_calls import Call, admit_call, settle_call
from metering.scripts import script
from plans.cap_table import LARGEST_CAP_MINOR, MeterTable, Segment, SpendLimit

SHARD, CALLS, AT_ONCE = 63, 8_000, 64
ORGANIZATION = secrets.randbelow(2**40)
FOREVER = 9_000_000_000_000_000


def admission(windows: int, spend: SpendLimit | None = None) -> Admission:
    """A call that passes, limited by so many windows and perhaps by a cap."""
    limits = [(60, 10_000_000), (1, 10_000_000)][:windows]
    keys = [(60, 10_000_000)][: max(0, windows - 2)]
    return Admission(
        SHARD, ORGANIZATION, "live", 1, 0, FOREVER, 1, 10**12, 1, 1, limits, 1, keys, new_nonce(), spend=spend
    )  # fmt: skip


def cap(meters: int) -> SpendLimit:
    """A cap that is not reached, over so many meters of three tiers each."""
    rows = (Segment(0, 0, 0, 1), Segment(10_000, 0, 10**6, 1), Segment(100_000, 9 * 10**10, 8 * 10**5, 3))
    return SpendLimit(LARGEST_CAP_MINOR, tuple(MeterTable(number, rows) for number in range(1, meters + 1)))


def event(request: Admission) -> bytes:
    """An event as the gateway writes it."""
    at = time.time_ns() // 1000
    return Event(
        id=event_id(at, request.nonce), occurred_at_us=at, organization_id=ORGANIZATION, mode="live", meter_id=1,
        period_id=1, quantity=Decimal(1), door="gateway", api_key_id=1, product_id=1, route_id=1, status=200,
        duration_us=1234, bytes_in=0, bytes_out=512, request_id="req_0123456789abcdef",
    ).to_json()  # fmt: skip


def server_times(client: "redis.Redis", windows: int, spend: SpendLimit | None = None) -> tuple[float, float]:
    """Microseconds of server time of an admission and a settle, by commandstats: the median of batches of 64, so that a
    neighbour on the machine does not decide the figure."""
    admits, settles = [], []
    for _ in range(CALLS // AT_ONCE):
        requests = [admission(windows, spend) for _ in range(AT_ONCE)]
        settlements = [Settlement.of(r, units=1, event=event(r)) for r in requests]
        admits.append(_run(client, [admit_call(request) for request in requests]))
        settles.append(_run(client, [settle_call(settlement) for settlement in settlements]))
    return median(admits), median(settles)


def _run(client: "redis.Redis", calls: "list[Call[AdmitAnswer]] | list[Call[Settled]]") -> float:
    client.config_resetstat()
    pipeline = client.pipeline(transaction=False)
    for call in calls:
        pipeline.execute_command("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)
    pipeline.execute()
    return float(client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"])


async def _rate(send: Callable[[], object], workers: int = AT_ONCE, seconds: float = 2.0) -> float:
    done, stop = 0, time.perf_counter() + seconds

    async def work() -> None:
        nonlocal done
        while time.perf_counter() < stop:
            await send()  # type: ignore[misc]
            done += 1

    await asyncio.gather(*[work() for _ in range(workers)])
    return done / seconds


async def client_rates(url: str) -> tuple[float, float]:
    """Admissions a second through LoopPipeline and through redis-py's asyncio client, 64 at once."""
    call = admit_call(admission(1))
    arguments = (call.script.sha, len(call.keys), *call.keys, *call.args)
    ours, theirs = LoopPipeline(url, timeout=2.0), redis.asyncio.Redis.from_url(url)
    batched = await _rate(lambda: ours.execute("EVALSHA", *arguments))
    plain = await _rate(lambda: theirs.evalsha(*arguments))
    await ours.aclose()
    await theirs.aclose()
    return batched, plain


def main() -> None:
    url = sys.argv[1] if len(sys.argv) > 1 else os.environ["REDIS_URL"]
    client = redis.Redis.from_url(url)
    client.hset(organization_key(SHARD, ORGANIZATION), "v", "1")
    client.hsetnx(shard_key(SHARD), "epoch", "bench")
    try:
        for name in ("admit", "settle"):
            client.script_load(script(name).source)
        for windows in (1, 2, 3):
            admit, settle = server_times(client, windows)
            print(f"script_admit_{windows}_windows {admit:.1f} us")
            print(f"script_settle_{windows}_windows {settle:.1f} us")
        for meters in (1, 2, 5):
            admit, settle = server_times(client, 1, cap(meters))
            print(f"script_admit_cap_over_{meters}_meters {admit:.1f} us")
            print(f"script_settle_cap_over_{meters}_meters {settle:.1f} us")
        batched, plain = asyncio.run(client_rates(url))
        print(f"client_loop_pipeline {batched:.0f} calls/s")
        print(f"client_redis_py_asyncio {plain:.0f} calls/s")
    finally:
        for key in client.scan_iter(f"{_prefix(SHARD)}*", count=10_000):
            client.unlink(key)


if __name__ == "__main__":
    main()
