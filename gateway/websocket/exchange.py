"""One WebSocket from admission to its last row."""

import asyncio

import structlog

from gateway.call import Call, CallRefused, Passed, admit, forwarded, tried_again
from gateway.caller import Callers
from gateway.headers import answer_headers, upstream_headers, withheld
from gateway.health_checks import nobody
from gateway.pool_call import PoolCall
from gateway.pools import Upstream
from gateway.problems import UPSTREAM_TIMEOUT, UPSTREAM_UNAVAILABLE, send_refusal
from gateway.proxy import UpstreamTimeout, UpstreamUnavailable
from gateway.recorder import Recorder
from gateway.upstream.pool import Pool
from gateway.websocket.dial import SWITCHING, Dialled, dial
from gateway.websocket.handshake import Opening, read_opening, switching, without_handshake
from gateway.websocket.meter import RETRY_SECONDS, WAIT_SECONDS, Meter
from gateway.websocket.open_ones import OpenOnes
from gateway.websocket.peer import Peer, of_client
from gateway.websocket.relay import SHUTDOWN, Ending, Relay
from metering.answers import Refusal

log = structlog.get_logger(__name__)


async def carry_out(
    call: Call, *, callers: Callers, recorder: Recorder, session: Pool, open_ones: OpenOnes
) -> Refusal | None:
    """Open the connection and stay with it until it ends; why not, where it is refused."""
    opening = read_opening(call.scope, call.path)
    if isinstance(opening, Refusal):
        return opening
    try:
        passed = await admit(call, callers, recorder)
    except CallRefused as error:
        return error.refusal
    meter = Meter(call, passed, callers=callers, recorder=recorder)
    await Exchange(call, opening, passed, meter, session, open_ones).run()
    return None


class Exchange:
    """An admitted connection."""

    def __init__(
        self, call: Call, opening: Opening, passed: Passed, meter: Meter, session: Pool, open_ones: OpenOnes
    ) -> None:
        self.call, self.opening, self.passed = call, opening, passed
        self.meter, self.session, self.open_ones = meter, session, open_ones
        self.pooled: PoolCall | None = None  # where the product has several servers
        self._dialled: Dialled | None = None

    async def run(self) -> None:
        """Ask the upstream, tell the client, pass frames on, write the last row."""
        try:
            client = await self._open()
        except BaseException:
            await self.meter.fail(500, "gateway_error")
            self._drop()
            raise
        try:
            if client is not None and self._dialled is not None:
                await self._stay(client, self._dialled.peer)
        finally:
            self._drop()

    # --- opening ------------------------------------------------------------------------------------------------

    async def _open(self) -> Peer | None:
        """The client's end; None where it was told something else."""
        try:
            dialled = self._dialled = await self._ask()
        except UpstreamUnavailable:
            await self._fail(UPSTREAM_UNAVAILABLE, "upstream_unavailable")
            return None
        except UpstreamTimeout:
            await self._fail(UPSTREAM_TIMEOUT, "upstream_timeout")
            return None
        if dialled.status != SWITCHING:
            await self._decline(dialled)
            return None
        if self.pooled is not None:
            self.pooled.accepted()
            self.meter.first_facts = dict(tried_again(self.pooled))
        if refusal := await self.meter.bill_opening():
            await self._refuse(refusal)
            return None
        units = [] if self.meter.is_by_message else [("Farebox-Units", self.call.route.units_text)]
        ours = [*self.passed.headers, ("X-Request-Id", self.call.request_id), *units]
        theirs = withheld(dialled.headers, dialled.upstream.credential)
        client = of_client(self.call.route.body_limit)
        self.call.scope["state"]["hand_over"](
            client, switching(self.opening, theirs, dialled.subprotocol, ours)
        )
        return client

    async def _ask(self) -> Dialled:
        route = self.call.route
        if route.pool is None:
            return await self._dial(route.upstream)
        self.pooled = PoolCall(
            route.pool, method="GET", body=nobody(), has_body=False, timeout_s=route.timeout_s
        )
        return await self.pooled.ask(lambda server: self._dial(server.upstream))

    async def _dial(self, upstream: Upstream) -> Dialled:
        call = self.call
        query = call.scope["query_string"].decode("latin-1")
        headers = upstream_headers(
            without_handshake(call.scope["headers"]), call.record, request_id=call.request_id,
            forwarded=forwarded(call.scope), credential=upstream.credential,
        )  # fmt: skip
        return await dial(
            self.session, upstream, call.path + (f"?{query}" if query else ""), headers=headers,
            subprotocols=self.opening.subprotocols, limit=call.route.body_limit, timeout_s=call.route.timeout_s,
        )  # fmt: skip

    async def _fail(self, refusal: Refusal, reason: str) -> None:
        await self._unbilled(refusal.status, reason)
        await self._refuse(refusal)

    async def _decline(self, dialled: Dialled) -> None:
        """What the upstream answered instead of 101 is the client's to read; none of it is billed."""
        if dialled.status < 300:  # an answer, but not by the rules
            return await self._fail(UPSTREAM_UNAVAILABLE, "upstream_error")
        await self._unbilled(dialled.status, "client_error" if dialled.status < 500 else "upstream_error")
        theirs = withheld(without_handshake(dialled.headers), dialled.upstream.credential)
        ours = [
            *self.passed.headers, ("X-Request-Id", self.call.request_id), ("Farebox-Units", "0"),
            ("Content-Length", str(len(dialled.body))),
        ]  # fmt: skip
        headers = answer_headers(theirs, ours, may_have_length=False)
        await self.call.send({"type": "http.response.start", "status": dialled.status, "headers": headers})
        await self.call.send({"type": "http.response.body", "body": dialled.body})

    async def _unbilled(self, status: int, reason: str) -> None:
        if self.pooled is not None:
            self.pooled.end(status, reason)
        await self.meter.fail(status, reason)

    async def _refuse(self, refusal: Refusal) -> None:
        await send_refusal(
            self.call.send, refusal, request_id=self.call.request_id,
            path=f"/{self.call.route.product_slug}{self.call.path}", method=self.call.method, extra=self.passed.headers,
        )  # fmt: skip

    def _drop(self) -> None:
        if self._dialled is not None:
            self._dialled.close()
        if self.pooled is not None:
            self.pooled.release()

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
        client.say_goodbye(*ending.to_client)
        upstream.say_goodbye(*ending.to_upstream)
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
