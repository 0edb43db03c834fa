"""When another server is asked: only where nothing can have happened twice, within the time and the budget."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.headers import RawHeaders
from gateway.pool_call import MOST_RETRIES, PoolCall
from gateway.pools import LEAST_RETRIES, ServerPool
from gateway.proxy import Body, ClientGone, UpstreamTimeout, UpstreamUnavailable
from tests.gateway.test_pools import server


@dataclass
class Said:
    """An answer."""

    status: int
    headers: RawHeaders = ()
    is_closed: bool = False

    def close(self) -> None:
        self.is_closed = True


@dataclass
class Servers:
    """A pool whose servers say what they are told to, in the order in which they are asked."""

    says: list[Any]
    retries: bool = True
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pool = ServerPool(f"fake {id(self)}", [server(name) for name in "abcd"], retries=self.retries)

    async def send(self, found: Any) -> Said:
        self.asked.append(found.key)
        what = self.says[len(self.asked) - 1]
        if callable(what):
            what = await what()
        if isinstance(what, BaseException):
            raise what
        return what if isinstance(what, Said) else Said(what)

    def call(self, method: str = "GET", body: Body | None = None, *, timeout_s: float = 5) -> PoolCall:
        return PoolCall(
            self.pool, method=method, body=body or a_body(), has_body=body is not None, timeout_s=timeout_s
        )

    @property
    def open(self) -> int:
        return sum(one.state.open for one in self.pool.servers)


def a_body(*, read: bytes | None = None, is_begun: bool = False) -> Body:
    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    return Body(receive, limit=100, content=read, is_begun=is_begun)


UNTOUCHED, BROKEN = UpstreamUnavailable(is_untouched=True), UpstreamUnavailable()


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("first", [502, 503, 504, BROKEN, UNTOUCHED])
async def test_safe_calls_are_tried_again_elsewhere(method: str, first: Any) -> None:
    servers = Servers([first, 200])
    call = servers.call(method)
    answer = await call.ask(servers.send)
    assert (answer.status, call.attempts, len(set(servers.asked))) == (200, 2, 2)
    assert servers.open == 1
    call.end(200, "")
    assert servers.open == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_others_only_where_no_server_saw_them(method: str) -> None:
    servers = Servers([UNTOUCHED, 503, 200])
    call = servers.call(method)
    assert (await call.ask(servers.send)).status == 503
    assert call.attempts == 2
    servers = Servers([BROKEN, 200])
    with pytest.raises(UpstreamUnavailable):
        await servers.call(method).ask(servers.send)
    assert len(servers.asked) == 1
    assert servers.open == 0


@pytest.mark.parametrize("status", [200, 301, 404, 429, 500, 501])
async def test_answers_that_say_something_are_passed_on(status: int) -> None:
    servers = Servers([status, 200])
    assert (await servers.call().ask(servers.send)).status == status
    assert len(servers.asked) == 1


async def test_an_answer_that_says_when_to_come_again_is_passed_on() -> None:
    servers = Servers([Said(503, [(b"Retry-After", b"7")]), 200])
    assert (await servers.call().ask(servers.send)).status == 503
    assert len(servers.asked) == 1


async def test_there_are_two_retries_and_the_last_answer_is_passed_on() -> None:
    first = Said(503)
    servers = Servers([first, 502, Said(504), 200])
    call = servers.call()
    answer = await call.ask(servers.send)
    assert (answer.status, call.attempts, answer.is_closed, first.is_closed) == (
        504, 1 + MOST_RETRIES, False, True,
    )  # fmt: skip


async def test_a_pool_whose_product_does_not_retry() -> None:
    servers = Servers([UNTOUCHED, 200], retries=False)
    with pytest.raises(UpstreamUnavailable):
        await servers.call().ask(servers.send)
    assert len(servers.asked) == 1


async def test_a_body_that_was_begun_is_not_sent_again() -> None:
    servers = Servers([UNTOUCHED, 200])
    with pytest.raises(UpstreamUnavailable):
        await servers.call("POST", a_body(is_begun=True)).ask(servers.send)
    for body in (a_body(), a_body(read=b"all of it", is_begun=True)):
        servers = Servers([UNTOUCHED, 200])
        assert (await servers.call("POST", body).ask(servers.send)).status == 200
    servers = Servers([503, 200])
    assert (await servers.call("GET", a_body(is_begun=True)).ask(servers.send)).status == 503


async def test_nobody_is_asked_for_a_client_who_left() -> None:
    body = a_body()
    body.is_gone = True
    servers = Servers([503, 200])
    assert (await servers.call("GET", body).ask(servers.send)).status == 503
    servers = Servers([ClientGone()])
    with pytest.raises(ClientGone):
        await servers.call().ask(servers.send)
    assert servers.open == 0
    assert servers.pool.servers[0].state.failures == 0


async def test_a_server_that_took_all_the_time_leaves_none_for_another() -> None:
    servers = Servers([UpstreamTimeout(), 200])
    with pytest.raises(UpstreamTimeout):
        await servers.call().ask(servers.send)
    assert len(servers.asked) == 1


async def test_all_attempts_have_the_time_of_one() -> None:
    async def slow() -> Said:
        await asyncio.sleep(30)
        return Said(200)

    servers = Servers([503, slow, 200])
    call = servers.call(timeout_s=-0.9)  # with the second to connect: 0.1 s
    with pytest.raises(UpstreamTimeout):
        await asyncio.wait_for(call.ask(servers.send), 5)
    failures = {one.key: one.state.failures for one in servers.pool.servers if one.key in servers.asked}
    assert failures == {servers.asked[0]: 1, servers.asked[1]: 0}  # the second had less than its time
    assert servers.open == 0


async def test_the_budget_ends_retries_of_what_servers_saw() -> None:
    servers = Servers([503, 200] * LEAST_RETRIES + [503, UNTOUCHED, 200])
    for _ in range(LEAST_RETRIES):
        call = servers.call()
        assert (await call.ask(servers.send)).status == 200
        call.release()
        for one in servers.pool.servers:
            one.state.succeed(chosen_at=0)
    assert (await servers.call().ask(servers.send)).status == 503
    call = servers.call()
    assert (await call.ask(servers.send)).status == 200  # no connection: that cost no server anything
    assert call.attempts == 2


@pytest.mark.parametrize(
    ("status", "reason", "failures"),
    [
        (502, "upstream_unavailable", 3), (504, "upstream_timeout", 3), (200, "upstream_error", 3), (503, "upstream_error", 3),
        (200, "", 0), (404, "client_error", 0),
        (500, "upstream_error", 2), (499, "client_gone", 2), (500, "gateway_error", 2), (200, "expired", 2),
    ],
)  # fmt: skip
async def test_the_end_of_a_call_tells_of_its_server(status: int, reason: str, failures: int) -> None:
    servers = Servers([200])
    call = servers.call()
    await call.ask(servers.send)
    assert call.server is not None
    state = call.server.state
    state.failures = 2
    call.end(status, reason)
    call.end(status, reason)  # a second word changes nothing
    call.release()
    assert (state.failures, state.open) == (failures, 0)
