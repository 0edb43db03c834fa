"""One end of a WebSocket: frames in and out with bounds on memory and time. The protocol itself is the library's, without I/O.

Frames are handed on as they come, so a long message is never held whole unless it came in one frame; its size is bounded
all the same. Pings are answered here and sent from here: each hop finds out by itself when the other end is gone.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import cast

from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import OPEN, SERVER, Protocol

from gateway.upstream.connection import Link

HIGH_WATER = 64 * 1024  # bytes of frames that wait here before we stop reading
MOST_UNSENT = 256 * 1024  # answers to pings that nobody reads
FRAME_BYTES = 64  # what an empty frame costs
PING_SECONDS = 20.0
PONG_SECONDS = 20.0
WRITE_SECONDS = 60.0
CLOSE_SECONDS = 2.0

# The library's own logger would write handshakes, with the owner's credential, where somebody lets it.
wire_log = logging.getLogger("gateway.websocket.wire")
wire_log.setLevel(logging.WARNING)


class End(Enum):
    """How an end of a connection ended."""

    CLOSED = "closed"  # it said so, with or without a code
    BROKEN = "broken"  # it broke the protocol, or a limit, and was told
    CUT = "cut"


class Peer(Link):
    """The other side is a client of ours, or an upstream."""

    def __init__(self, ws: Protocol) -> None:
        self.ws = ws
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)  # until it is connected
        self.loop = asyncio.get_running_loop()
        self.bytes_in = self.bytes_out = 0
        self.heard_at = self.active_at = self.loop.time()
        self.opened: asyncio.Future[Response] = self.loop.create_future()
        self.lost: asyncio.Future[None] = self.loop.create_future()
        self.on_lost: Callable[[Exception | None], None] | None = None
        self.on_shutdown: Callable[[], None] | None = None
        self._frames: deque[Frame] = deque()
        self._waiting_bytes = 0
        self._arrival: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None  # while the other end does not read
        self._write_timer: asyncio.TimerHandle | None = None
        self._is_paused = self._is_stuffed = self._is_pinged = False

    # --- what the event loop calls ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.bytes_in += len(data)
        self.heard_at, self._is_pinged = self.loop.time(), False
        self.ws.receive_data(data)
        self._after_reading()

    def eof_received(self) -> bool:
        self.ws.receive_eof()
        self._after_reading()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.ws.receive_eof()
        self.resume_writing()
        if not self.lost.done():
            self.lost.set_result(None)
        self._after_reading()
        if self.on_lost is not None:
            self.on_lost(error)

    def pause_writing(self) -> None:
        if self._room is None:
            self._room = self.loop.create_future()
            self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        self._is_stuffed = False
        if self._room is not None:
            self._room.set_result(None)
            self._room = None
        if self._write_timer is not None:
            self._write_timer.cancel()
        self._judge_reading()

    def shutdown(self) -> None:
        """The server stops."""
        if self.on_shutdown is not None:
            self.on_shutdown()

    # --- frames -------------------------------------------------------------------------------------------------

    @property
    def end(self) -> End | None:
        """How it ended; None while it goes on. Frames that came before may still wait."""
        if self.ws.close_rcvd is not None:
            return End.CLOSED
        error = self.ws.parser_exc
        if error is not None and not isinstance(error, EOFError):
            return End.BROKEN
        return End.CUT if error is not None or self.lost.done() else None

    async def read(self) -> Frame | None:
        """The next frame of data; None after the last one."""
        while not self._frames:
            if self.end is not None:
                return None
            self._arrival = self.loop.create_future()
            await self._arrival
        frame = self._frames.popleft()
        self._waiting_bytes -= len(frame.data) + FRAME_BYTES
        self._judge_reading()
        return frame

    async def write(self, frame: Frame) -> bool:
        """Pass a frame of data on and wait while the other end does not read; False: it takes none any more."""
        if self.ws.state is not OPEN or self.lost.done():
            return False
        if frame.opcode is Opcode.CONT:
            self.ws.send_continuation(frame.data, frame.fin)
        elif frame.opcode is Opcode.TEXT:
            self.ws.send_text(frame.data, frame.fin)
        else:
            self.ws.send_binary(frame.data, frame.fin)
        self.send()
        if self._room is not None:
            await asyncio.shield(self._room)
        return True

    def send(self) -> None:
        """Write what the protocol has to say."""
        for piece in self.ws.data_to_send():
            if self.transport.is_closing():
                return
            if piece:
                self.bytes_out += len(piece)
                self.transport.write(piece)
            elif self.transport.can_write_eof():
                self.transport.write_eof()  # not closed: what it still sends would tear our last words away
            else:
                self.transport.close()

    # --- the end ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Cut it."""
        if self.transport is not None:
            self.transport.abort()

    def say_goodbye(self, code: int | None, reason: str = "") -> None:
        """Say why it is over, where nobody has yet."""
        if self.ws.state is OPEN and not self.lost.done():
            self.ws.send_close(code, reason)
            self.send()

    async def closed(self) -> None:
        """Give the other end some time to agree, then cut."""
        await asyncio.wait([self.lost], timeout=CLOSE_SECONDS)
        self.close()

    def look(self, at: float) -> None:
        """Every few seconds: an end that is silent is asked, one that stays silent is cut."""
        if self._is_paused:  # it is we who do not listen
            self.heard_at = at
        silent = at - self.heard_at
        if silent > PING_SECONDS + PONG_SECONDS:
            self.transport.abort()
        elif silent > PING_SECONDS and not self._is_pinged and self.ws.state is OPEN:
            self._is_pinged = True
            self.ws.send_ping(b"")
            self.send()

    # --- inside -------------------------------------------------------------------------------------------------

    def _after_reading(self) -> None:
        self.send()
        for event in self.ws.events_received():
            if isinstance(event, Frame):
                self._take(event)
            elif isinstance(event, Response) and not self.opened.done():
                self.opened.set_result(event)
        if (self.ws.handshake_exc is not None or self.lost.done()) and not self.opened.done():
            self.opened.cancel()
        if self._room is not None and self.transport.get_write_buffer_size() > MOST_UNSENT:
            self._is_stuffed = True
        self._judge_reading()
        if self._arrival is not None and not self._arrival.done() and (self._frames or self.end is not None):
            self._arrival.set_result(None)

    def _take(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.PONG:
            self.active_at = self.heard_at
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._frames.append(frame)
            self._waiting_bytes += len(frame.data) + FRAME_BYTES

    def _judge_reading(self) -> None:
        should_pause = self._waiting_bytes > HIGH_WATER or self._is_stuffed
        if should_pause == self._is_paused or self.transport.is_closing():
            return
        self._is_paused = should_pause
        if should_pause:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()


def of_client(limit: int) -> Peer:
    """The end that a client is at, after its handshake. `limit`: bytes of a message."""
    return Peer(Protocol(SERVER, state=OPEN, max_size=limit, logger=wire_log))
