"""A thousand streams held open for a minute, a third of them left by their clients (R16): the gateway's memory and descriptors
afterwards, the event of every stream, and what is still reserved.

    make bench ARGS="--part hold"        the full form, which exits with 1 where a promise is not kept

Memory is compared with what a first wave of as many streams left: what a process needs for so many at once it keeps.
"""

import asyncio
import random
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import orjson
import uvloop

from benchmarks.kit import descriptors, rss_kb, serving_gateway, tell
from benchmarks.model_streams import (
    MODEL,
    Client,
    StreamFailed,
    request,
    room_for,
    sell_models,
    serving_models,
)

STREAMS, SECONDS, CUT = 1_000, 60, 0.3
MOST_GROWTH = 0.05
WARM = 10  # seconds: all of them are open at once
PAUSE = 1.0  # between two pieces of a stream
AT_ONCE = 50  # that are being opened


@dataclass(frozen=True)
class Held:
    """What clients saw of their streams."""

    whole: int
    cut: int
    failed: int


async def hold(
    url: str, key: str, *, streams: int, seconds: float, model: str = MODEL, pause: float = PAUSE
) -> Held:
    """Open them, read each to its end, or leave it at a moment that only chance knows."""
    gate, chance = asyncio.Semaphore(AT_ONCE), random.Random(1)
    content = request(url, key, pieces=round(seconds / pause), pause=pause, model=model)
    leaving = [chance.random() * seconds * 0.9 for _ in range(round(streams * CUT))]
    ends: list[float | None] = [*leaving, *[None] * (streams - len(leaving))]
    chance.shuffle(ends)

    async def one(leave_after: float | None) -> str:
        async with gate:
            client = await Client.connect(url)
            await client.ask(content)
        try:
            async with asyncio.timeout(leave_after):
                await client.finish()
        except TimeoutError:
            return "cut"
        finally:
            client.cut()
        return "whole"

    results = await asyncio.gather(*map(one, ends), return_exceptions=True)
    if unexpected := [
        one for one in results if isinstance(one, BaseException) and not isinstance(one, StreamFailed)
    ]:
        raise unexpected[0]
    return Held(
        results.count("whole"), results.count("cut"), sum(isinstance(r, StreamFailed) for r in results)
    )


def wait_until_at_most(most: int, pid: int, *, within: float) -> int:
    """The process's descriptors when they are no more than this, or when the time is over."""
    deadline = time.monotonic() + within
    while (now := descriptors(pid)) > most and time.monotonic() < deadline:
        time.sleep(0.1)
    return now


def measure(seconds: float) -> None:
    """Print the figures of the full form, however long a round of load is."""
    with ExitStack() as stack:
        upstream = stack.enter_context(ExitStack())
        key = sell_models(upstream.enter_context(serving_models()))
        url, gateway = stack.enter_context(serving_gateway())
        uvloop.run(hold(url, key, streams=1, seconds=0))
        start, count = descriptors(gateway), room_for(STREAMS)
        uvloop.run(hold(url, key, streams=count, seconds=WARM))
        memory = rss_kb(gateway)
        held = uvloop.run(hold(url, key, streams=count, seconds=SECONDS))
        settled = wait_until_settled(2 * count + 1, within=60)
        growth, reserved = rss_kb(gateway) / memory - 1, open_reservations()
        upstream.close()  # its idle connections are no leak
        end = wait_until_at_most(start, gateway, within=30)
    tell("held_streams", held.whole + held.cut, "streams", asked=f"{STREAMS} for {SECONDS} s")
    tell("held_streams_cut", held.cut, "streams", asked=f"{CUT:.0%}")
    tell("held_streams_failed", held.failed, "streams", asked="0")
    tell("held_streams_memory", memory / 1024, "MB")
    tell("held_streams_memory_growth", growth * 100, "%", digits=1, asked="at most 5")
    tell("held_streams_descriptors_left", max(0, end - start), "descriptors", asked="0")
    tell("held_streams_without_event", 2 * count + 1 - settled, "streams", asked="0")
    tell("held_streams_reservations_left", reserved, "reservations", asked="0")
    if held.failed or growth > MOST_GROWTH or end > start or settled != 2 * count + 1 or reserved:
        sys.exit(1)


def wait_until_settled(calls: int, *, within: float) -> int:
    """How many calls have events: as many as wanted, or as there are when the time is over."""
    deadline = time.monotonic() + within
    while (now := len(settled_calls())) < calls and time.monotonic() < deadline:
        time.sleep(0.5)
    return now


def settled_calls() -> set[str]:
    """Request ids in the streams."""
    from core.redis import usage_redis
    from core.redis_layout import SHARDS, stream_key

    entries: list[Any] = [
        entry for shard in range(SHARDS) for entry in usage_redis().xrange(stream_key(shard)) or ()
    ]
    return {orjson.loads(fields[b"e"])["rid"] for _, fields in entries}


def open_reservations() -> int:
    """Of all organizations."""
    from core.redis import usage_redis
    from core.redis_layout import LAYOUT

    client = usage_redis()
    return sum(client.zcard(key) for key in client.scan_iter(f"{LAYOUT}:*:res:*", count=1000))
