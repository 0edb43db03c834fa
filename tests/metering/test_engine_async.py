"""The asyncio engine: the same answers, one write per turn of the loop, time-outs, breaks, reconnects."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from core.redis_loop import LoopPipeline
from metering.engine import Admitted, AsyncEngine, MeteringUnavailable, Settlement, TrackedEvent, Verdict
from tests.metering.engine_kit import FOREVER, METER, ORG, SHARD, counters, make_admission, open_organization


@pytest.fixture
async def pipeline(usage_redis: "redis.Redis") -> AsyncIterator[LoopPipeline]:
    open_organization(usage_redis)
    pipeline = LoopPipeline(os.environ["REDIS_URL"], timeout=2.0)
    yield pipeline
    await pipeline.aclose()


async def test_every_act_answers_like_the_sync_engine(
    pipeline: LoopPipeline, usage_redis: "redis.Redis"
) -> None:
    engine, request = AsyncEngine(pipeline), make_admission()
    assert isinstance(await engine.admit(request), Admitted)
    assert await engine.renew([request.reservation]) == [True]
    assert (await engine.settle(Settlement.of(request, units=1, event=b"{}"))).is_recorded
    assert await engine.release(request.reservation) is False
    event = TrackedEvent(ORG, "live", 7, METER, 4, "a", FOREVER, b"{}")
    assert await engine.track(SHARD, [event, event]) == [Verdict.ACCEPTED, Verdict.DUPLICATE]
    await engine.record_refusal(SHARD, ORG, "live", 1, "scope")
    assert counters(usage_redis) == (5, 0)
    assert len(usage_redis.keys("*:ref:*")) == 1


async def test_commands_of_one_turn_leave_in_one_write(
    pipeline: LoopPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pipeline.execute("PING")
    writes: list[bytes] = []
    connection: Any = pipeline._connection
    write = connection._transport.write

    class Transport:
        def write(self, data: bytes) -> None:
            writes.append(data)
            write(data)

    monkeypatch.setattr(connection, "_transport", Transport())
    replies = await asyncio.gather(*[pipeline.execute("ECHO", str(n)) for n in range(50)])
    monkeypatch.undo()
    assert replies == [str(n).encode() for n in range(50)]
    assert len(writes) == 1


async def test_first_commands_share_one_connection(
    pipeline: LoopPipeline, usage_redis: "redis.Redis"
) -> None:
    before = usage_redis.info("clients")["connected_clients"]
    await asyncio.gather(*[pipeline.execute("PING") for _ in range(20)])
    assert usage_redis.info("clients")["connected_clients"] == before + 1


async def test_forgotten_scripts_are_loaded_again(pipeline: LoopPipeline, usage_redis: "redis.Redis") -> None:
    usage_redis.script_flush()
    assert isinstance(await AsyncEngine(pipeline).admit(make_admission()), Admitted)


async def test_error_of_one_command_is_its_own(pipeline: LoopPipeline) -> None:
    bad, good = await asyncio.gather(
        pipeline.execute("GET"), pipeline.execute("ECHO", "x"), return_exceptions=True
    )
    assert isinstance(bad, ResponseError)
    assert good == b"x"


async def test_cancelled_caller_does_not_shift_the_replies(pipeline: LoopPipeline) -> None:
    await pipeline.execute("PING")
    cancelled = asyncio.create_task(pipeline.execute("ECHO", "lost"))
    await asyncio.sleep(0)
    kept = asyncio.create_task(pipeline.execute("ECHO", "kept"))
    cancelled.cancel()
    assert await kept == b"kept"


async def test_a_database_number_is_selected(usage_redis: "redis.Redis") -> None:
    head = os.environ["REDIS_URL"].rsplit("/", 1)[0]
    other = LoopPipeline(f"{head}/3", timeout=2.0)
    await other.execute("SET", "only-in-3", "1")
    assert not usage_redis.exists("only-in-3")
    await other.execute("DEL", "only-in-3")
    await other.aclose()


async def test_server_that_refuses_connections_is_an_error_at_once() -> None:
    engine = AsyncEngine(LoopPipeline("redis://127.0.0.1:1/0", timeout=2.0))
    began = time.monotonic()
    with pytest.raises(MeteringUnavailable):
        await engine.admit(make_admission())
    assert time.monotonic() - began < 1


async def test_wrong_password_is_refused_and_leaves_no_connection(usage_redis: "redis.Redis") -> None:
    usage_redis.acl_setuser("door", enabled=True, passwords=["+secret word"], commands=["+ping", "+select"])
    address = os.environ["REDIS_URL"].rpartition("@")[2]
    known = LoopPipeline(f"redis://door:secret%20word@{address}", timeout=2.0)
    assert await known.execute("PING") == b"PONG"
    await known.aclose()
    before = usage_redis.info("stats")["total_connections_received"]
    with pytest.raises(ResponseError):
        await LoopPipeline(f"redis://door:wrong@{address}", timeout=2.0).execute("PING")
    assert usage_redis.info("stats")["total_connections_received"] == before + 1
    assert not [client for client in usage_redis.client_list() if client["user"] == "door"]
    usage_redis.acl_deluser("door")


async def test_frozen_server_times_out_and_is_found_again(server_factory: Any) -> None:
    server = server_factory.valkey()
    pipeline = LoopPipeline(server.url, timeout=0.5)
    await pipeline.execute("PING")
    server.freeze()
    began = time.monotonic()
    results = await asyncio.gather(*[pipeline.execute("INCR", "n") for _ in range(5)], return_exceptions=True)
    waited = time.monotonic() - began
    server.thaw()
    assert 0.4 < waited < 1.0
    assert all(isinstance(result, RedisTimeoutError | RedisConnectionError) for result in results)
    assert await pipeline.execute("PING") == b"PONG"
    await pipeline.aclose()


async def test_killed_server_fails_what_waits_and_is_found_again(server_factory: Any) -> None:
    server = server_factory.valkey()
    pipeline = LoopPipeline(server.url, timeout=2.0)
    await pipeline.execute("SET", "kept", "1")
    waiting = asyncio.create_task(pipeline.execute("BLPOP", "nothing", "0"))
    await asyncio.sleep(0.1)
    await asyncio.to_thread(server.kill)
    with pytest.raises(RedisConnectionError):
        await waiting
    with pytest.raises(RedisConnectionError):
        await pipeline.execute("PING")
    await asyncio.to_thread(server.start)
    assert await pipeline.execute("GET", "kept") == b"1"
    await pipeline.aclose()


def test_it_runs_on_the_gateways_loop(usage_redis: "redis.Redis") -> None:
    async def admit() -> object:
        pipeline = LoopPipeline(os.environ["REDIS_URL"], timeout=2.0)
        answer = await AsyncEngine(pipeline).admit(make_admission())
        await pipeline.aclose()
        return answer

    open_organization(usage_redis)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert isinstance(runner.run(admit()), Admitted)
