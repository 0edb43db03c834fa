"""An end of a connection that says nothing: it is asked, then cut; one that we do not listen to is left alone."""

import asyncio
from typing import Any

from websockets.frames import Frame, Opcode

from gateway.websocket.peer import HIGH_WATER, PING_SECONDS, PONG_SECONDS, End, Peer, of_client


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_aborted = self.is_paused = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.is_aborted

    def close(self) -> None:
        self.is_aborted = True

    def abort(self) -> None:
        self.is_aborted = True

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


def masked(opcode: int, data: bytes) -> bytes:
    return Frame(Opcode(opcode), data).serialize(mask=True)


async def open_peer() -> tuple[Peer, Wire]:
    peer, wire = of_client(1_000_000), Wire()
    peer.connection_made(wire)
    return peer, wire


def test_a_silent_end_is_asked_once_and_cut_when_it_stays_silent() -> None:
    async def play() -> None:
        peer, wire = await open_peer()
        at = peer.heard_at
        peer.look(at + PING_SECONDS - 1)
        assert wire.written == b""
        for second in range(1, 4):
            peer.look(at + PING_SECONDS + second)
        assert wire.written == b"\x89\x00"  # one ping
        peer.look(at + PING_SECONDS + PONG_SECONDS + 1)
        assert wire.is_aborted

    asyncio.run(play())


def test_an_end_that_answers_stays_and_is_asked_again() -> None:
    async def play() -> None:
        peer, wire = await open_peer()
        peer.active_at = 0.0
        peer.look(peer.heard_at + PING_SECONDS + 1)
        peer.data_received(masked(Opcode.PONG, b""))
        peer.look(peer.heard_at + PING_SECONDS + 1)
        assert wire.written == b"\x89\x00" * 2
        assert not wire.is_aborted
        assert peer.active_at == 0.0  # an answer is no use of the connection

    asyncio.run(play())


def test_frames_that_nobody_takes_stop_the_reading_until_they_are_taken() -> None:
    async def play() -> None:
        peer, wire = await open_peer()
        peer.data_received(masked(Opcode.BINARY, bytes(HIGH_WATER)))
        assert wire.is_paused
        peer.look(peer.heard_at + 1000)
        assert not wire.is_aborted  # it is we who do not listen
        frame = await peer.read()
        assert frame is not None
        assert len(frame.data) == HIGH_WATER
        assert not wire.is_paused

    asyncio.run(play())


def test_what_came_before_the_end_is_read_first() -> None:
    async def play() -> None:
        peer, _ = await open_peer()
        peer.data_received(masked(Opcode.TEXT, b"last words") + masked(Opcode.CLOSE, b"\x03\xe8"))
        frame = await peer.read()
        assert frame is not None
        assert frame.data == b"last words"
        assert await peer.read() is None
        assert peer.end is End.CLOSED

    asyncio.run(play())
