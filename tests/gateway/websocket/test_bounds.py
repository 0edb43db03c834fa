"""Frames that break the rules, messages that are too long, ends that do not read."""

import socket
import struct
from decimal import Decimal
from urllib.parse import urlsplit

import pytest
from websockets.frames import Close

from tests.gateway.kit import wait_for
from tests.gateway.websocket.kit import Sockets, closed, counted, held
from tests.gateway.websocket.raw import CLOSE, CONT, PING, PONG, TEXT, Raw, handshake, raw

RESERVED_BIT = 0x40


def test_long_messages_pass_whole_and_unchanged_both_ways(sockets: Sockets) -> None:
    customer = sockets.customer()
    message = bytes(range(256)) * 12_000  # 3 MB
    with sockets.open(customer, "live/echo", max_size=None) as ws:
        ws.send(message)
        assert ws.recv(timeout=30) == message
    event = customer.only_event()
    assert event["qty"] == Decimal(2)
    assert event["in"] > 3_000_000
    assert event["out"] > 3_000_000


def test_frames_that_come_with_the_handshake_are_kept_for_afterwards(sockets: Sockets) -> None:
    customer = sockets.customer()
    with raw(sockets.gateway, customer, "ask/echo", early=b"\x81\x85" + bytes(4) + b"early") as ws:
        assert ws.read() == (TEXT, b"early")
    assert customer.only_event()["qty"] == Decimal(1)


@pytest.mark.parametrize("is_fragmented", [False, True])
def test_a_message_over_the_routes_limit_ends_the_connection(
    sockets: Sockets, *, is_fragmented: bool
) -> None:
    customer = sockets.customer()
    with sockets.open(customer, "ask/small/echo") as ws:
        ws.send("x" * 1000)
        assert len(ws.recv(timeout=5)) == 1000
        ws.send(["x" * 600, "x" * 600] if is_fragmented else "x" * 1001)
        end = closed(ws)
        assert end is not None
        assert end.code == 1009
    event = customer.only_event()
    assert event["qty"] == Decimal(2 if is_fragmented else 1)  # its first fragment was passed on
    assert event["props"]["ended"] == "broken"


def test_fragments_are_one_message_and_pings_none(sockets: Sockets) -> None:
    customer = sockets.customer()
    with raw(sockets.gateway, customer, "ask/echo") as ws:
        ws.send(TEXT, b"in ", fin=False)
        ws.send(PING, b"there?")
        assert ws.read() == (PONG, b"there?")
        ws.send(CONT, b"three ", fin=False)
        ws.send(CONT, b"pieces")
        assert ws.read() == (TEXT, b"in three pieces")
        ws.send(CLOSE, b"\x03\xe8")
        assert ws.read() == (CLOSE, b"\x03\xe8")
    event = customer.only_event()
    assert (event["qty"], event["props"]["messages_in"], event["props"]["messages_out"]) == (Decimal(1), 1, 1)


@pytest.mark.parametrize(
    "fault", ["unmasked", "reserved bit", "unknown opcode", "stray continuation", "long ping", "bad close"]
)
def test_malformed_frames_end_the_connection_with_1002(sockets: Sockets, fault: str) -> None:
    customer = sockets.customer()
    with raw(sockets.gateway, customer, "live/echo") as ws:
        if fault == "unmasked":
            ws.send(TEXT, b"x", mask=False)
        elif fault == "reserved bit":
            ws.send(TEXT, b"x", flags=RESERVED_BIT)
        elif fault == "unknown opcode":
            ws.send(3, b"x")
        elif fault == "stray continuation":
            ws.send(CONT, b"x")
        elif fault == "long ping":
            ws.send(PING, b"x" * 126)
        else:
            ws.send(CLOSE, b"\x03")
        assert ws.close_code() == 1002
    event = customer.only_event()
    assert (event["qty"], event["props"]["close_code"], event["props"]["ended"]) == (
        Decimal(0),
        1002,
        "broken",
    )
    wait_for(lambda: held(customer) == 0)


@pytest.mark.parametrize("act", ["cut", "malformed"])
def test_an_api_that_breaks_off_is_a_bad_gateway_to_the_client(sockets: Sockets, act: str) -> None:
    customer = sockets.customer()
    with sockets.open(customer, f"live/{act}") as ws:
        ws.send("x")
        assert closed(ws) == Close(1014, "upstream_unavailable")
    event = customer.only_event()
    assert (event["qty"], event["props"]["ended_by"]) == (Decimal(1), "upstream")


def test_a_client_that_is_cut_off_is_settled_and_the_api_is_told(sockets: Sockets) -> None:
    customer = sockets.customer()
    sockets.log()
    with raw(sockets.gateway, customer, "live/echo") as ws:
        ws.send(TEXT, b"x")
        ws.read()
    event = customer.only_event()
    assert (event["qty"], event["props"]["close_code"], event["props"]["ended"]) == (Decimal(2), 1006, "cut")
    wait_for(lambda: "echo closed 1001" in sockets.upstream.get("/log").json)
    assert counted(customer) == (2, 0)


def test_a_client_that_does_not_read_stops_the_api_and_fills_no_memory(sockets: Sockets) -> None:
    customer = sockets.customer()
    sockets.log()
    before = sockets.gateway.rss_kb()
    with raw(sockets.gateway, customer, "line/flood", room=65_536) as ws:
        sent = settled_at(sockets)
        assert 0 < sent < 400  # of 64 kB each: what systems keep on their ways
        assert sockets.gateway.rss_kb() - before < 8_000
        for _ in range(20):
            assert len(ws.read()[1]) == 65_536  # it goes on where it stopped
    wait_for(lambda: held(customer) == 0)


def settled_at(sockets: Sockets) -> int:
    """How many messages the API had sent when it could send no more."""
    last = [-1]

    def is_stuck() -> bool:
        sent = [int(line.split()[1]) for line in sockets.upstream.get("/log").json if line.startswith("sent")]
        before, last[0] = last[0], sent[-1] if sent else last[0]
        return not sent and before > 0

    wait_for(is_stuck, within=20)
    return last[0]


def test_an_api_that_does_not_read_stops_the_client(sockets: Sockets) -> None:
    customer = sockets.customer()
    before = sockets.gateway.rss_kb()
    with raw(sockets.gateway, customer, "line/deaf") as ws:
        assert 0 < sent_until_stuck(ws, b"\x82\xff" + (65_536).to_bytes(8) + bytes(4 + 65_536)) < 400
        assert sockets.gateway.rss_kb() - before < 8_000


def test_pings_whose_answers_nobody_reads_fill_no_memory(sockets: Sockets) -> None:
    customer = sockets.customer()
    before = sockets.gateway.rss_kb()
    with raw(sockets.gateway, customer, "line/silent", room=65_536) as ws:
        thousand = (b"\x89\xfd" + bytes(4 + 125)) * 1000
        assert 0 < sent_until_stuck(ws, thousand) < 400  # 50 MB, were they all taken
        assert sockets.gateway.rss_kb() - before < 8_000
    wait_for(lambda: held(customer) == 0)


def sent_until_stuck(ws: Raw, data: bytes) -> int:
    """How often it could be sent before the gateway took no more."""
    ws.sock.settimeout(2)
    for times in range(400):
        try:
            ws.sock.sendall(data)
        except TimeoutError:
            return times
    return 400


@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize("path", ["live/late", "line/late"])
def test_a_client_that_leaves_before_the_api_accepts_holds_nothing(
    sockets: Sockets, path: str, *, is_reset: bool
) -> None:
    customer = sockets.customer()
    host, _, port = urlsplit(sockets.gateway.url).netloc.partition(":")
    with socket.create_connection((host, int(port))) as sock:
        if is_reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.sendall(handshake(customer, path))
        wait_for(lambda: held(customer) == 1)
    wait_for(
        lambda: len(customer.events()) == (1 if path == "live/late" else 2) and held(customer) == 0, within=6
    )
