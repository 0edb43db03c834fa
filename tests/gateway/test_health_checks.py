"""Active checks, the end of ejections, and what staff is told."""

import asyncio
import time
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from core.redis import usage_redis
from gateway.app import Gateway
from gateway.health_checks import HealthChecks
from gateway.pools import Check, Server, ServerState, Upstream
from gateway.proxy import UpstreamTimeout, UpstreamUnavailable
from plans.admin.servers import words_of
from plans.upstream_states import KEPT_SECONDS, ServerSeen, read_states, report_commands
from tests.gateway.test_pool_call import Said
from tests.gateway.test_pools import eject, server

CREDENTIAL = ("X-Token", "owner's")


CHECK = Check("/healthz", 10, 204, with_credential=False)


def checked(check: Check = CHECK) -> Server:
    return Server("product:seven", Upstream("http://a", CREDENTIAL, 1.0), "", 0, 1, check, ServerState("a"))


class Asking:
    """Says the next of these to whoever asks."""

    def __init__(self, *says: Any) -> None:
        self.says, self.asked = list(says), []  # type: ignore[var-annotated]

    async def __call__(self, upstream: Upstream, path: str, headers: Any, seconds: float) -> Said:
        self.asked.append((upstream.base_url + path, dict(headers)))
        what = self.says.pop(0)
        if isinstance(what, BaseException):
            raise what
        return Said(what)


@pytest.mark.parametrize(
    ("says", "error"),
    [
        (500, "check: answered 500"), (200, "check: answered 200"), (UpstreamTimeout(), "check: no answer in time"),
        (UpstreamUnavailable(), "check: no answer"), (UpstreamUnavailable(is_untouched=True), "check: no connection"),
    ],
)  # fmt: skip
async def test_what_a_check_says(says: Any, error: str) -> None:
    one, asking = checked(), Asking(says, says, 204, 204)
    checks = HealthChecks(lambda: [one], asking)
    for _ in range(2):
        await checks.check(one, CHECK)
    assert (one.state.is_out, one.state.last_error) == (True, error)
    for _ in range(2):
        await checks.check(one, CHECK)
    assert not one.state.is_out
    assert asking.asked[0][0] == "http://a/healthz"


@pytest.mark.parametrize("is_asked_for", [True, False])
async def test_the_credential_is_sent_only_where_staff_say_so(*, is_asked_for: bool) -> None:
    check = Check("/healthz", 10, 204, with_credential=is_asked_for)
    one, asking = checked(check), Asking(204)
    await HealthChecks(lambda: [one], asking).check(one, check)
    assert ("X-Token" in asking.asked[0][1]) is is_asked_for


async def test_checks_come_at_their_time_and_never_beside_one_another() -> None:
    one, asking = checked(), Asking(204, 204)
    checks = HealthChecks(lambda: [one], asking)
    moments: list[float] = []
    for tenth in range(0, 400, 5):
        await checks.tick(1_000 + tenth / 10)
        await asyncio.sleep(0)
        if len(asking.asked) > len(moments):
            moments.append(tenth / 10)
        if len(moments) == 2:
            break
    assert moments[0] == 0
    assert 8 <= moments[1] <= 12.5  # jittered, so that workers do not ask together
    await checks.stop()


async def test_checks_that_are_switched_off_hold_no_longer() -> None:
    one = server("a")
    for _ in range(2):
        one.state.checked("check: no answer")
    was_out = one.state.is_out
    checks = HealthChecks(lambda: [one], Asking())
    await checks.tick(0.0)
    assert (was_out, one.state.is_out) == (True, False)
    await checks.stop()


async def test_workers_tell_what_they_see_and_it_is_forgotten_by_itself() -> None:
    one, two = checked(), server("product:eight")
    eject(two, now=time.monotonic())
    one.state.open = 3
    one.state.next_check_at = float("inf")
    checks = HealthChecks(lambda: [one, two], Asking())
    await checks.tick(time.monotonic())
    await checks.stop()

    client = usage_redis()
    states = read_states(client, at_s=time.time())
    (seen,) = states["product:seven"].values()
    assert seen == ServerSeen("product:seven", "healthy", open=3)
    assert words_of(states["product:eight"]) == "left out for 10 s (no answer) (1 worker)"
    keys: Any = client.keys("fb1:upstreams:*")
    assert all(0 < int(client.ttl(key)) <= KEPT_SECONDS for key in keys)
    assert read_states(client, at_s=time.time() + 60) == {}


def test_words_of_several_workers() -> None:
    well, out = ServerSeen("a", "healthy"), ServerSeen("a", "unwell", error="check: answered 500")
    assert words_of({"w1": well, "w2": well, "w3": out}) == (
        "fails its checks (check: answered 500) (1 worker); healthy, 0 open calls (2 workers)"
    )
    assert words_of({"w": ServerSeen("a", "healthy", open=1)}) == "healthy, 1 open call (1 worker)"
    assert words_of({}).startswith("not asked")


async def test_without_redis_servers_are_looked_after_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    one = server("a")
    eject(one, now=0.0)
    checks = HealthChecks(lambda: [one], Asking())

    async def away(*_: Any) -> None:
        raise RedisConnectionError("away")

    monkeypatch.setattr(checks._redis, "execute", away)
    await checks.tick(1_000.0)
    assert not one.state.is_out
    await checks.stop()


def test_a_report_is_two_commands_on_one_key() -> None:
    commands = report_commands("w", [ServerSeen("a", "healthy")], at_s=1234.5)
    assert [command[:2] for command in commands] == [
        ("HSET", "fb1:upstreams:123"), ("EXPIRE", "fb1:upstreams:123"),
    ]  # fmt: skip


async def test_an_answer_to_a_check_leaves_its_connection_for_the_next() -> None:
    connections, ended = 0, asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 204 Well\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError):
            writer.transport.abort()
            ended.set()

    gateway = Gateway()
    await gateway.start()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        one = Server("product:nine", Upstream(url, CREDENTIAL, 1.0), "", 0, 1, CHECK, ServerState("nine"))
        for _ in range(3):
            await gateway.checks.check(one, CHECK)
        await gateway.stop()
        await ended.wait()
        await asyncio.sleep(0)  # the transport closes in the loop's next turn
    assert (connections, one.state.last_error) == (1, "")
