"""One WebSocket from admission to its last row."""

import asyncio

import structlog

from gateway.call import Call, CallRefused, Passed, admit, forwarded
from gateway.caller import Callers
from gateway.headers import answer_headers, upstream_headers
from gateway.problems import UPSTREAM_TIMEOUT, UPSTREAM_UNAVAILABLE, send_refusal
from gateway.proxy import UpstreamTimeout, UpstreamUnavailable
from gateway.recorder import Recorder
from gateway.websocket.dial import Declined, dial
from gateway.websocket.handshake import Opening, read_opening, switching, without_handshake
from gateway.websocket.meter import RETRY_SECONDS, WAIT_SECONDS, Meter
from gateway.websocket.open_ones import OpenOnes
from gateway.websocket.peer import Peer, of_client
from gateway.websocket.relay import SHUTDOWN, Ending, Relay
from metering.answers import Refusal

log = structlog.get_logger(__name__)


async def carry_out(
    call: Call, *, callers: Callers, recorder: Recorder, open_ones: OpenOnes
) -> Refusal | None:
    """Open the connection and stay with it until it ends; why not, where it is refused."""
    opening = read_opening(call.scope, call.path)
    if isinstance(opening, Refusal):
        return opening
    try:
        passed = await admit(call, callers, recorder)
    except CallRefused as error:
        return error.refusal
    await Exchange(
        call, opening, passed, Meter(call, passed, callers=callers, recorder=recorder), open_ones
    ).run()
    return None


class Exchange:
    """An admitted connection."""

    def __init__(
        self, call: Call, opening: Opening, passed: Passed, meter: Meter, open_ones: OpenOnes
    ) -> None:
        self.call, self.opening, self.passed = call, opening, passed
        self.meter, self.open_ones = meter, open_ones
        self._upstream: Peer | None = None

    async def run(self) -> None:
        """Ask the upstream, tell the client, pass frames on, write the last row."""
        try:
            client, upstream = await self._open()
        except _NotOpened:
            return
        except BaseException:
            self._drop_upstream()
            await self.meter.fail(500, "gateway_error")
            raise
        await self._stay(client, upstream)

    # --- opening ------------------------------------------------------------------------------------------------

    async def _open(self) -> tuple[Peer, Peer]:
        call = self.call
        query = call.scope["query_string"].decode("latin-1")
        try:
            upstream, response, subprotocol = await dial(
                call.route.upstream, call.path + (f"?{query}" if query else ""), headers=self._headers(),
                subprotocols=self.opening.subprotocols, limit=call.route.body_limit, timeout_s=call.route.timeout_s,
            )  # fmt: skip
        except UpstreamUnavailable:
            return await self._fail(UPSTREAM_UNAVAILABLE, "upstream_unavailable")
        except UpstreamTimeout:
            return await self._fail(UPSTREAM_TIMEOUT, "upstream_timeout")
        except Declined as answer:
            return await self._decline(answer)
        self._upstream = upstream
        if refusal := await self.meter.bill_opening():
            self._drop_upstream()
            await self._refuse(refusal)
            raise _NotOpened
        units = [] if self.meter.is_by_message else [("Farebox-Units", call.route.units_text)]
        ours = [*self.passed.headers, ("X-Request-Id", call.request_id), *units]
        theirs = [(n.lower().encode(), v.encode("latin-1")) for n, v in response.headers.raw_items()]
        client = of_client(call.route.body_limit)
        call.scope["state"]["hand_over"](client)
        client.transport.write(switching(self.opening, theirs, subprotocol, ours))
        return client, upstream

    def _headers(self) -> list[tuple[str, str]]:
        call = self.call
        return upstream_headers(
            without_handshake(call.scope["headers"]), call.record, request_id=call.request_id,
            forwarded=forwarded(call.scope), credential=call.route.upstream.credential,
        )  # fmt: skip

    async def _fail(self, refusal: Refusal, reason: str) -> "tuple[Peer, Peer]":
        await self.meter.fail(refusal.status, reason)
        await self._refuse(refusal)
        raise _NotOpened

    async def _decline(self, declined: Declined) -> "tuple[Peer, Peer]":
        """What the upstream answered instead of 101 is the client's to read; none of it is billed."""
        response = declined.response
        status, body = response.status_code, bytes(response.body or b"")
        if status < 300:  # an answer, but not by the rules
            return await self._fail(UPSTREAM_UNAVAILABLE, "upstream_error")
        await self.meter.fail(status, "client_error" if status < 500 else "upstream_error")
        theirs = [(n.lower().encode(), v.encode("latin-1")) for n, v in response.headers.raw_items()]
        ours = [
            *self.passed.headers, ("X-Request-Id", self.call.request_id), ("Farebox-Units", "0"),
            ("Content-Length", str(len(body))),
        ]  # fmt: skip
        headers = answer_headers(without_handshake(theirs), ours, may_have_length=False)
        await self.call.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.call.send({"type": "http.response.body", "body": body})
        raise _NotOpened

    async def _refuse(self, refusal: Refusal) -> None:
        await send_refusal(
            self.call.send, refusal, request_id=self.call.request_id,
            path=f"/{self.call.route.product_slug}{self.call.path}", method=self.call.method, extra=self.passed.headers,
        )  # fmt: skip

    def _drop_upstream(self) -> None:
        if self._upstream is not None:
            self._upstream.transport.abort()

    # --- open ---------------------------------------------------------------------------------------------------

    async def _stay(self, client: Peer, upstream: Peer) -> None:
        relay = Relay(client, upstream, self.meter)
        client.on_shutdown = lambda: relay.end(SHUTDOWN)
        self.open_ones.add(relay)
        ending = SHUTDOWN  # where the server gives up waiting
        try:
            ending = await relay.run()
        finally:
            self.open_ones.discard(relay)
            relay.count_bytes()
            await asyncio.shield(self._end(client, upstream, ending))

    async def _end(self, client: Peer, upstream: Peer, ending: Ending) -> None:
        """Settle before the client is told that it is over; without Redis, for some time after that."""
        is_settled = await self.meter.close(ending.facts)
        client.close(*ending.to_client)
        upstream.close(*ending.to_upstream)
        await asyncio.gather(client.closed(), upstream.closed())
        until = asyncio.get_running_loop().time() + WAIT_SECONDS
        while not is_settled and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(RETRY_SECONDS)
            is_settled = await self.meter.close(ending.facts)
        log.info(
            "websocket_closed", request_id=self.call.request_id, route=self.call.route.public_id,
            organization=self.call.record.organization_public_id, is_settled=is_settled,
            duration_us=self.call.duration_us(), **ending.facts,
        )  # fmt: skip


class _NotOpened(Exception):
    """The client has its answer."""
