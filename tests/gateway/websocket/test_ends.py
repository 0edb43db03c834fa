"""Workers that stop or die, and connections that are cut at random: what is charged then."""

import os
import random
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close

from core.redis import usage_redis
from core.redis_layout import reservations_key
from metering.engine import Engine
from tests.gateway.cable import Cable
from tests.gateway.kit import Process, wait_for
from tests.gateway.websocket.kit import Sockets, closed, counted, held
from tests.gateway.websocket.raw import TEXT, raw


@pytest.fixture
def second() -> Iterator[Process]:
    """A gateway beside the common one, which may be stopped; its parts are long."""
    gateway = Process().wait_until_ready()
    yield gateway
    gateway.kill()


def test_a_worker_that_stops_says_so_and_settles(sockets: Sockets, second: Process) -> None:
    customer = sockets.customer()
    with (
        sockets.open(customer, "live/echo", via=second) as live,
        sockets.open(customer, "line/echo", via=second) as line,
    ):
        live.send("x")
        assert live.recv(timeout=5) == "x"
        started = time.monotonic()
        stopping = threading.Thread(target=second.stop)
        stopping.start()
        assert closed(live) == Close(1001, "restart")
        assert closed(line) == Close(1001, "restart")
        stopping.join()
        assert time.monotonic() - started < 6
    assert counted(customer) == (3, 0)
    assert held(customer) == 0
    assert {event["props"]["ended"] for event in customer.events() if "props" in event} == {"shutdown"}


def test_a_worker_that_dies_charges_nothing_more_and_holds_nothing_for_long(
    sockets: Sockets, second: Process
) -> None:
    """The connection was settled when it opened; messages of a part that nobody settled are free."""
    customer = sockets.customer()
    with (
        sockets.open(customer, "live/echo", via=second) as live,
        sockets.open(customer, "line/echo", via=second) as line,
    ):
        live.send("x")
        assert live.recv(timeout=5) == "x"
        assert counted(customer)[0] == 1
        second.kill()
        for ws in (live, line):
            with pytest.raises(ConnectionClosed):
                ws.recv(timeout=5)
    assert counted(customer)[1] > 0
    assert held(customer) == 2
    expire(customer.organization.shard, customer.organization.pk)
    assert Engine(usage_redis()).sweep(customer.organization.shard) == 2
    assert counted(customer) == (1, 0)
    assert held(customer) == 0
    with sockets.open(customer, "live/echo") as again:
        again.send("y")
        assert again.recv(timeout=5) == "y"


def test_connections_cut_at_random_are_charged_what_was_passed_on(sockets: Sockets) -> None:
    customer, choose = sockets.customer(included=Decimal(100_000), per_minute=1000), random.Random(7)
    echoed: list[int] = []

    def talk(messages: int, *, at_once: bool) -> None:
        with raw(sockets.gateway, customer, "live/echo") as ws:
            for _ in range(messages):
                ws.send(TEXT, b"x" * 100)
            for _ in range(0 if at_once else messages):
                ws.read()
        echoed.append(messages)

    talkers = [
        threading.Thread(target=talk, args=(choose.randrange(60),), kwargs={"at_once": choose.random() < 0.5})
        for _ in range(40)
    ]
    for talker in talkers:
        talker.start()
    for talker in talkers:
        talker.join(60)
    wait_for(lambda: held(customer) == 0, within=20)
    events = customer.events()
    assert len(events) == len({event["rid"] for event in events}) == 40
    for event in events:
        assert event["qty"] == event["props"]["messages_in"] + event["props"]["messages_out"]
        assert event["props"]["messages_out"] <= event["props"]["messages_in"]
    total = sum(event["qty"] for event in events)
    assert total <= 2 * sum(echoed)
    assert counted(customer) == (total, 0)


def test_while_redis_is_away_messages_wait_and_what_was_paid_for_goes_on(sockets: Sockets) -> None:
    customer, cable = sockets.customer(), Cable(os.environ["REDIS_URL"])
    gateway = Process(REDIS_URL=cable.url).wait_until_ready()
    try:
        with (
            sockets.open(customer, "live/echo", via=gateway) as live,
            sockets.open(customer, "line/echo", via=gateway) as line,
        ):
            cable.cut()
            live.send("reserved by the handshake")
            with pytest.raises(TimeoutError):
                live.recv(timeout=1)  # its answer is not
            line.send("paid for")
            assert line.recv(timeout=5) == "paid for"
            answer = sockets.refused(customer, "line/echo", via=gateway)
            assert answer.status_code == 503
            cable.mend()
            assert live.recv(timeout=10) == "reserved by the handshake"
            cable.cut()
            line.close()
            live.close()
            cable.mend()
        wait_for(lambda: held(customer) == 0, within=20)
    finally:
        gateway.stop()
        cable.close()
    assert counted(customer) == (3, 0)


def expire(shard: int, org_id: int) -> None:
    """As a minute later."""
    client: Any = usage_redis()
    for member in client.zrange(reservations_key(shard, org_id), 0, -1):
        client.zadd(reservations_key(shard, org_id), {member: 1})
