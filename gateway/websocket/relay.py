"""An open connection: frames from each end to the other until one of them, or we, end it."""

import asyncio
from dataclasses import dataclass
from typing import Any

import structlog
from django.conf import settings
from websockets.frames import CloseCode, Opcode

from gateway.websocket.meter import Meter
from gateway.websocket.peer import End, Peer
from metering.answers import KEY_UNKNOWN_NOW, METERING_UNAVAILABLE, Refusal

log = structlog.get_logger(__name__)

Goodbye = tuple[int | None, str]  # code and reason; None: without a code
GOING_AWAY: Goodbye = (CloseCode.GOING_AWAY, "")
BAD_GATEWAY: Goodbye = (CloseCode.BAD_GATEWAY, "upstream_unavailable")
_LATER = (
    "rate_limited",
    "key_rate_limited",
    "concurrency_limited",
    METERING_UNAVAILABLE.code,
    KEY_UNKNOWN_NOW.code,
)


@dataclass(frozen=True, slots=True)
class Ending:
    """Who ended it (`client`, `upstream`, `gateway`), how, with what code, and what each end is told."""

    by: str
    how: str
    code: int
    to_client: Goodbye
    to_upstream: Goodbye

    @property
    def facts(self) -> dict[str, Any]:
        """For the last row."""
        return {"ended_by": self.by, "ended": self.how, "close_code": self.code}


def _by_us(how: str, code: int, reason: str) -> Ending:
    return Ending("gateway", how, int(code), (code, reason), GOING_AWAY)


def refused(refusal: Refusal) -> Ending:
    """A connection that may not go on. 1008: trying again does not help by itself; 1013: it does."""
    code = CloseCode.TRY_AGAIN_LATER if refusal.code in _LATER else CloseCode.POLICY_VIOLATION
    return _by_us(refusal.code, code, refusal.code)


IDLE = _by_us("idle", CloseCode.GOING_AWAY, "idle")
SHUTDOWN = _by_us("shutdown", CloseCode.GOING_AWAY, "restart")
FAULT = _by_us("gateway_error", CloseCode.INTERNAL_ERROR, "internal_error")


class Relay:
    """One open connection with both its ends."""

    def __init__(self, client: Peer, upstream: Peer, meter: Meter) -> None:
        self.client, self.upstream, self.meter = client, upstream, meter
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._going_on: asyncio.Task[None] | None = None

    async def run(self) -> Ending:
        """Pass frames on until it ends; closing the ends is left to the caller."""
        pumps = [
            asyncio.create_task(self._pump(self.client, self.upstream, is_in=True)),
            asyncio.create_task(self._pump(self.upstream, self.client, is_in=False)),
        ]
        try:
            return await self._ending
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    def end(self, ending: Ending) -> None:
        """End it so, unless it ended already."""
        if not self._ending.done():
            self._ending.set_result(ending)

    @property
    def version(self) -> int:
        """Of the organization, as the connection knows it."""
        return self.meter.call.record.version

    def look(self, at: float) -> None:
        """Every few seconds: whether both ends are there, use it, and what it is charged is still true."""
        self.client.look(at)
        self.upstream.look(at)
        self.count_bytes()
        if at - max(self.client.active_at, self.upstream.active_at) > settings.WEBSOCKET_IDLE_SECONDS:
            self.end(IDLE)
        elif self.meter.is_due():
            self.go_on()

    def go_on(self) -> None:
        """Ask by what is true now whether it may go on."""
        if self._going_on is None or self._going_on.done():
            self._going_on = asyncio.create_task(self._go_on())

    def count_bytes(self) -> None:
        self.meter.bytes_in, self.meter.bytes_out = self.client.bytes_in, self.client.bytes_out

    async def _go_on(self) -> None:
        try:
            refusal = await self.meter.go_on()
        except Exception:
            log.exception("websocket_part_failed", request_id=self.meter.call.request_id)
            return self.end(FAULT)
        # Without Redis it goes on with what is reserved (billed by message) or paid for, and asks again.
        if refusal is not None and refusal is not METERING_UNAVAILABLE:
            self.end(refused(refusal))

    async def _pump(self, source: Peer, target: Peer, *, is_in: bool) -> None:
        try:
            while (frame := await source.read()) is not None:
                is_message = frame.opcode is not Opcode.CONT
                if is_message and (refusal := await self.meter.take(is_in=is_in)):
                    return self.end(refused(refusal))
                if not await target.write(frame):
                    if is_message:
                        self.meter.give_back(is_in=is_in)
                    return self.end(self._ended(target, is_client=not is_in))
            self.end(self._ended(source, is_client=is_in))
        except Exception:
            log.exception("websocket_failed", request_id=self.meter.call.request_id)
            self.end(FAULT)

    def _ended(self, peer: Peer, *, is_client: bool) -> Ending:
        """One end is gone: the other is told what it said, or that it is gone."""
        by = "client" if is_client else "upstream"
        how = peer.end or End.CUT
        said, told = peer.ws.close_rcvd, peer.ws.close_sent
        if how is End.CLOSED and said is not None:
            goodbye: Goodbye = (None if said.code == CloseCode.NO_STATUS_RCVD else said.code, said.reason)
            return Ending(by, how.value, int(said.code), goodbye, goodbye)
        code = int(told.code if told is not None and how is End.BROKEN else CloseCode.ABNORMAL_CLOSURE)
        return Ending(by, how.value, code, BAD_GATEWAY, GOING_AWAY)
