"""What a connection may still do, and what it is charged: quotas to the message, changes, parts."""

import threading
import time
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close

from core.clock import now, to_micros
from core.redis import usage_redis as usage_client
from core.redis_layout import usage_key
from keys.services import issue_key, revoke_key
from metering.calls import day_name
from metering.drain import drain_all
from metering.models import UsageEvent
from plans.caps import set_cap
from plans.daily_tokens import set_daily_tokens
from plans.models import CapSide, Meter, Route
from plans.suspension import suspend_organization
from plans.versions import raise_version
from tests.gateway.kit import Customer, wait_for
from tests.gateway.websocket.kit import Sockets, closed, counted, held
from tests.plans.price_kit import component, put_on, version_of

AT_ONCE = 6


def test_a_quota_is_used_to_the_message_and_the_next_one_is_not_passed_on(sockets: Sockets) -> None:
    customer = sockets.customer(included=Decimal(7))
    sockets.upstream.get("/log")
    with sockets.open(customer, "ask/silent") as ws:
        for _ in range(8):
            ws.send("x")
        assert closed(ws) == Close(1008, "quota_exceeded")
    event = customer.only_event()
    assert (event["qty"], event["props"]["ended"]) == (Decimal(7), "quota_exceeded")
    assert counted(customer) == (7, 0)
    assert sockets.upstream.get("/log").json.count("got 1") == 7


def test_connections_at_once_never_pass_more_than_the_quota(sockets: Sockets) -> None:
    """Each holds a slice of its own; together they come to exactly what is left."""
    customer = sockets.customer(included=Decimal(201))
    answered: list[int] = []
    ends: list[Close | None] = []

    def talk() -> None:
        got = 0
        with sockets.open(customer, "live/echo") as ws, suppress(ConnectionClosed):
            while True:
                ws.send("x")
                ws.recv(timeout=10)
                got += 1
        ends.append(closed(ws))
        answered.append(got)

    talkers = [threading.Thread(target=talk) for _ in range(AT_ONCE)]
    for talker in talkers:
        talker.start()
    for talker in talkers:
        talker.join(60)
    assert ends == [Close(1008, "quota_exceeded")] * AT_ONCE
    wait_for(lambda: held(customer) == 0)
    assert counted(customer) == (201, 0)
    events = customer.events()
    assert sum(event["qty"] for event in events) == Decimal(201)
    assert sum(event["props"]["messages_out"] for event in events) == sum(answered)


def test_the_last_messages_of_a_quota_go_to_whoever_asks_although_another_holds_some(
    sockets: Sockets,
) -> None:
    customer = sockets.customer(included=Decimal(10))
    with sockets.open(customer, "ask/echo") as quiet, sockets.open(customer, "ask/echo") as busy:
        quiet.send("x")
        quiet.recv(timeout=5)
        for _ in range(9):
            busy.send("x")
            busy.recv(timeout=5)
        assert counted(customer) == (0, 10)


def test_a_revoked_key_loses_its_open_connections_within_seconds(sockets: Sockets) -> None:
    customer = sockets.customer()
    key = issue_key(organization=customer.organization, name="other", mode="live", by=None, at=now())
    with (
        sockets.open(customer, "line/echo") as stays,
        sockets.open(customer, "line/echo", key=key.clear) as line,
    ):
        with sockets.open(customer, "live/echo", key=key.clear) as live:
            live.send("x")
            assert live.recv(timeout=5) == "x"
            revoke_key(key=key.key, by=None, at=now())
            assert closed(live) == Close(1008, "invalid_key")
            assert closed(line) == Close(1008, "invalid_key")
        stays.send("still here")
        assert stays.recv(timeout=5) == "still here"
    wait_for(lambda: held(customer) == 0)
    assert counted(customer) == (4, 0)  # two connections and two messages


def test_a_key_that_expires_loses_its_open_connections(sockets: Sockets) -> None:
    customer = sockets.customer()
    soon = now() + timedelta(seconds=3)
    key = issue_key(
        organization=customer.organization, name="short", mode="live", by=None, at=now(), expires_at=soon
    )
    with sockets.open(customer, "line/echo", key=key.clear) as ws:
        assert closed(ws) == Close(1008, "key_expired")


def test_a_change_that_leaves_the_key_alone_leaves_the_connection_open(sockets: Sockets) -> None:
    """Every change of an organization is looked at; what was counted until then is settled."""
    customer = sockets.customer()
    with sockets.open(customer, "live/echo") as ws:
        ws.send("x")
        ws.recv(timeout=5)
        issue_key(organization=customer.organization, name="other", mode="live", by=None, at=now())
        wait_for(lambda: len(customer.events()) == 1)
        ws.send("y")
        assert ws.recv(timeout=5) == "y"
    wait_for(lambda: len(customer.events()) == 2)
    assert counted(customer) == (4, 0)


def test_a_suspended_organization_loses_its_open_connections(sockets: Sockets) -> None:
    customer = sockets.customer()
    with sockets.open(customer, "line/echo") as ws:
        suspend_organization(organization=customer.organization, reason="abuse", by=None, at=now())
        assert closed(ws) == Close(1008, "suspended")


def test_a_long_connection_is_settled_in_parts_of_which_one_is_a_call(sockets: Sockets) -> None:
    """The gateway of these tests ends a part after two seconds."""
    customer = sockets.customer()
    with sockets.open(customer, "live/echo") as ws:
        for messages in (1, 2):
            for _ in range(messages):
                ws.send("x")
                ws.recv(timeout=5)
            wait_for(lambda: len(customer.events()) == messages, within=15)  # noqa: B023 - asked at once
        assert held(customer) == 1
    wait_for(lambda: len(customer.events()) == 3)
    events = customer.events()
    assert [(event["qty"], event.get("status")) for event in events] == [
        (Decimal(2), 101),
        (Decimal(4), None),
        (Decimal(0), None),
    ]
    assert len({event["rid"] for event in events}) == 1
    assert len({event["id"] for event in events}) == 3
    assert counted(customer) == (6, 0)
    drain_all(at=now())
    rows = UsageEvent.objects.filter(organization_id=customer.organization.pk).order_by("occurred_at")
    assert [row.quantity for row in rows] == [2, 4, 0]


def test_an_idle_connection_is_closed_and_leaves_no_rows_but_its_own(sockets: Sockets) -> None:
    """The gateway of these tests waits eight seconds."""
    customer = sockets.customer()
    with sockets.open(customer, "live/silent") as ws:
        assert closed(ws, within=15) == Close(1001, "idle")
    event = customer.only_event()
    assert (event["qty"], event["props"]["ended"]) == (Decimal(0), "idle")


@pytest.mark.parametrize("path", ["line/echo", "live/echo"])
def test_calls_at_once_count_open_connections_for_as_long_as_they_are_open(
    sockets: Sockets, path: str
) -> None:
    customer = with_at_once(sockets, 2)
    with sockets.open(customer, path):
        with sockets.open(customer, path) as second:
            answer = sockets.refused(customer, path)
            assert (answer.status_code, b"concurrency_limited" in (answer.body or b"")) == (429, True)
            second.close()
            wait_for(lambda: held(customer) == 1)
        with sockets.open(customer, path):
            assert held(customer) == 2


def with_at_once(sockets: Sockets, calls: int) -> Customer:
    """A customer that may have so many calls open, at a cent each."""
    customer = sockets.customer()
    priced = component(sockets.routes["line/*"].meter, model="per_unit", unit_price=Decimal("0.01"))
    put_on(customer.organization, version_of(priced, concurrency=calls))
    return customer


@pytest.mark.parametrize("path", ["line/echo", "ask/echo"])
def test_a_connection_keeps_its_place_among_a_routes_open_calls(sockets: Sockets, path: str) -> None:
    customer = sockets.customer()
    route = sockets.routes[path.partition("/")[0] + "/*"]
    limit = {"scope": "route", "route": route, "calls": 1, "measure": "concurrency", "window_seconds": 0}
    priced = component(route.meter, model="per_unit", unit_price=Decimal("0.01"))
    put_on(customer.organization, version_of(priced, limits=(limit,)))
    with sockets.open(customer, path) as ws:
        begun = time.monotonic()
        while time.monotonic() < begun + 5:  # longer than two parts
            ws.send("x")
            assert ws.recv(timeout=5) == "x"
            time.sleep(0.2)
        answer = sockets.refused(customer, path)
        assert (answer.status_code, b"route_concurrency_limited" in (answer.body or b"")) == (429, True)
    wait_for(lambda: held(customer) == 0)
    with sockets.open(customer, path) as ws:
        ws.send("x")
        assert ws.recv(timeout=5) == "x"


def test_messages_that_are_tokens_end_with_the_day(sockets: Sockets) -> None:
    customer = sockets.customer()
    route = sockets.routes["ask/*"]
    Meter.objects.filter(pk=route.meter_id).update(unit="token")
    set_daily_tokens(organization=customer.organization, tokens=6, reason="agreed", by=None, at=now())
    with sockets.open(customer, "ask/silent") as ws:
        for _ in range(8):
            ws.send("x")
        assert closed(ws) == Close(1008, "daily_token_limit_reached")
    wait_for(lambda: held(customer) == 0)
    day = day_name(to_micros(now()))
    name = usage_key(customer.organization.shard, customer.organization.pk, "live", day)
    assert usage_client().hgetall(name) == {b"0": b"6", b"r0": b"0"}


def test_calls_at_once_of_a_key_hold_through_the_parts_of_a_connection(sockets: Sockets) -> None:
    customer = sockets.customer()
    one_each = {"scope": "key", "calls": 1, "measure": "concurrency", "window_seconds": 0}
    meter = sockets.routes["live/*"].meter
    put_on(
        customer.organization,
        version_of(component(meter, unit_price=Decimal("0.01")), windows=((60, 100),), limits=[one_each]),
    )
    other = issue_key(organization=customer.organization, name="other", mode="live", by=None, at=now())
    with sockets.open(customer, "live/echo") as ws, sockets.open(customer, "line/echo", key=other.clear):
        for _ in range(2):
            ws.send("x")
            assert ws.recv(timeout=5) == "x"
            answer = sockets.refused(customer, "line/echo")
            assert b"key_concurrency_limited" in (answer.body or b"")
            settled = len(customer.events())
            raise_version(customer.organization)  # a change: the connection goes on as another part
            wait_for(lambda: len(customer.events()) > settled)  # noqa: B023 - asked at once
    wait_for(lambda: held(customer) == 0)
    with sockets.open(customer, "line/echo"):
        assert held(customer) == 1


def test_a_cap_ends_a_connection_before_the_message_that_would_pass_it(sockets: Sockets) -> None:
    customer = with_at_once(sockets, 5)
    set_cap(
        organization=customer.organization, side=CapSide.CUSTOMER, amount_minor=3, spent_minor=0, by=None, at=now()
    )  # fmt: skip
    with sockets.open(customer, "ask/silent") as ws:
        for _ in range(4):
            ws.send("x")
        assert closed(ws) == Close(1008, "spend_cap_reached")
    assert counted(customer) == (3, 0)


def test_a_route_that_is_taken_off_sale_loses_its_open_connections(sockets: Sockets) -> None:
    customer = sockets.customer()
    with sockets.open(customer, "line/taken/echo") as ws, sockets.open(customer, "line/echo") as other:
        Route.objects.filter(pk=sockets.routes["line/taken/*"].pk).update(is_active=False)
        assert closed(ws) == Close(1008, "not_found")
        other.send("x")
        assert other.recv(timeout=5) == "x"
