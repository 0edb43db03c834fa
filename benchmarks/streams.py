"""Streams of language models: how much later their first token comes, and what thousands of open ones take of memory."""

import asyncio
import os
import signal
import time
from contextlib import ExitStack
from statistics import median

import uvloop

from benchmarks.kit import descriptors, memory_mb, serving_gateway, tell, warn
from benchmarks.model_streams import Client, StreamFailed, request, room_for, sell_models, serving_models

OPEN = 5_000
AT_ONCE = 100  # that are being opened
PATIENCE = 20.0  # seconds until a stream has begun
HELD = 20.0  # seconds: reservations of open calls are renewed every 15
PAIRS_A_SECOND = 75


def measure(seconds: float) -> None:
    """Print the figures."""
    with ExitStack() as stack:
        models_url = stack.enter_context(serving_models())
        key = sell_models(models_url)
        gateway_url, gateway = stack.enter_context(serving_gateway())
        uvloop.run(_first_tokens(gateway_url, models_url, key, round(PAIRS_A_SECOND * seconds)))
        before = memory_mb(gateway)
        uvloop.run(_hold_open(gateway_url, key, gateway, before))


async def _first_tokens(gateway_url: str, models_url: str, key: str, pairs: int) -> None:
    """One stream after the other, in turns through the gateway and past it, over kept connections."""
    through, past = await Client.connect(gateway_url), await Client.connect(models_url)
    ours, theirs = list[float](), list[float]()
    for _ in range(pairs):
        for client, url, times in ((through, gateway_url, ours), (past, models_url, theirs)):
            times.append(await client.ask(request(url, key)))
            await client.finish()
    for client in (through, past):
        client.cut()
    tell("first_token_direct", median(theirs) * 1000, "ms", digits=2)
    tell("first_token_through_gateway", median(ours) * 1000, "ms", digits=2)
    delay = (median(ours) - median(theirs)) * 1000
    tell("first_token_delay", delay, "ms", digits=2, asked="under 2 ms")


async def _open(url: str, key: str, count: int, opened: list[Client]) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def open_one() -> None:
        async with gate, asyncio.timeout(PATIENCE):
            client = await Client.connect(url)
            await client.ask(request(url, key, pieces=1, pause=600))
            opened.append(client)

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(open_one())


async def _hold_open(url: str, key: str, gateway: int, before: float) -> None:
    """Open streams, each with its first token delivered and more to come, and look at the gateway then."""
    wanted, began = room_for(OPEN), time.perf_counter()
    opened = list[Client]()
    try:
        await _open(url, key, wanted, opened)
    except* (StreamFailed, OSError) as failures:  # the first one ends the opening
        warn(f"{wanted} open streams, only {len(opened)}: {failures.exceptions[0]!r}")
    tell("open_streams", len(opened), "streams", asked=f"{OPEN}")
    tell("open_streams_opened_within", time.perf_counter() - began, "s", digits=1)
    await asyncio.sleep(HELD)
    memory, asked = memory_mb(gateway), "under 400 MB" if len(opened) == OPEN else ""
    tell(f"open_streams_{len(opened)}_memory", memory, "MB", asked=asked)
    tell("open_streams_memory_each", (memory - before) * 1024 / max(1, len(opened)), "kB", digits=1)
    tell(f"open_streams_{len(opened)}_descriptors", descriptors(gateway), "descriptors")
    if cut := sum(client.reader.at_eof() for client in opened):
        warn(f"{len(opened)} open streams all the time: {cut} of them were cut while they were held")
    os.kill(gateway, signal.SIGKILL)  # nothing more is asked of it, and it would wait for its streams
