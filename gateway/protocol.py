"""The server's HTTP protocol with the bounds that uvicorn lacks: `uvicorn --http gateway.protocol:GuardedProtocol`.

uvicorn reads heads of any size for any time, answers malformed ones in plain text, and lets trailers of a body pass for
headers. Here a head has 10 s and 64 kB (the gateway itself refuses from 32 kB, with the exact count), a client that stops
sending its body or reading its answer has 60 s, and every answer is a problem document.

Usual calls never become ASGI messages: the gateway takes them as they are parsed (gateway/lane.py) and this protocol writes
their answers; all others are uvicorn's.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import unquote

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

import gateway.app  # noqa: F401 - it sets Django up before what follows imports models
from core.request_id import new_request_id
from gateway.headers import MAX_HEADER_BYTES, MAX_HEADER_LINES, RawHeaders, encoded, is_plainly_framed
from gateway.plain_call import PlainCall
from gateway.problems import BAD_REQUEST, HEADERS_TOO_LARGE, REQUEST_TIMEOUT, problem_answer
from gateway.proxy import WHEN_LEFT
from gateway.served import forwarded_lines, shared_by
from gateway.upstream.answer import Answer
from metering.answers import Refusal
from metering.prepared import Passed

log = structlog.get_logger("gateway")

MAX_UNREAD_BYTES = 64 * 1024
HEAD_SECONDS = 10.0
BODY_SECONDS = 60.0
WRITE_SECONDS = 60.0


class BadFraming(ValueError):
    """Nobody can surely say where this request ends."""


class Taker(Protocol):
    """A protocol that goes on with a connection after its HTTP (gateway/websocket/peer.py)."""

    on_lost: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...

    def data_received(self, data: bytes) -> None: ...

    def shutdown(self) -> None: ...


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    cycle: Any  # uvicorn's, or a PlainCall, which answers to the names that uvicorn asks for

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._unread = 0  # bytes since the parser last handed out a head or a piece of body
        self._in_head = True
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_until = 0.0
        self._is_lost = False
        self._leaving: list[Callable[[], None]] = []
        self._shared = shared_by(self.config)
        self._plain: PlainCall | None = None  # being carried out
        self._coming: PlainCall | None = None  # whose body is not there yet
        self._pieces: list[bytes] = []
        self._is_whole = False
        self._forwarded = b""
        self._taker: Taker | None = None
        self._early = b""  # what came behind the head of an upgrade

    # --- what the transport does ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._forwarded = forwarded_lines(self.client[0] if self.client else "unknown", self.scheme or "http")
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._stop_timer()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self.resume_writing()
        if isinstance(self.cycle, PlainCall):
            self.cycle = None  # uvicorn would wake a task that it does not have
        super().connection_lost(exc)
        self._coming = None
        self._tell_left()

    def data_received(self, data: bytes) -> None:
        transport = self.transport
        if transport.is_closing():
            return
        self._unread += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("")
            return
        except httptools.HttpParserUpgrade as upgrade:
            self._wait_for_taker(data[upgrade.args[0] :])
        if self._coming is not None:
            self._start_coming()
        if self._in_head and not self._unread:
            if self._timer is not None:
                self._stop_timer()
            return
        if transport.is_closing():
            return
        if self._unread > MAX_UNREAD_BYTES:
            self._refuse(HEADERS_TOO_LARGE)
            return
        self._heard_at = self.loop.time()
        if self._timer is None:
            self._start_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    # --- what the parser finds -----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._coming is not None:
            self._start_coming()
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what comes later are trailers, which nobody asked for
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        size = self._unread
        self._in_head, self._unread = False, 0
        if self._timer is not None:
            self._stop_timer()
        call = self._take(size)
        if call is None:
            self._begin_cycle()
            return
        call.keep_alive = self.parser.should_keep_alive()
        self.cycle = call
        if call.ahead.size:
            self._coming, self._is_whole = call, False
            self._pieces.clear()
        else:
            self._plain = call
            call.start(b"")

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        if self._coming is not None:
            self._pieces.append(body)
        elif not isinstance(self.cycle, PlainCall):
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head, self._unread = True, 0
        if self._coming is not None:
            self._is_whole = True
        elif not isinstance(self.cycle, PlainCall):
            super().on_message_complete()

    # --- usual calls ---------------------------------------------------------------------------------------------

    def forwarded(self, via: bytes | None, scheme: bytes | None) -> bytes:
        """Lines that say to the upstream where a request came from, but for the host's name; `via` and `scheme` are what
        another proxy said of it."""
        if (via is None and scheme is None) or not self._shared.trusts(self.client):
            return self._forwarded
        address = self.client[0] if self.client else "unknown"
        return self._shared.forwarded(address, self.scheme or "http", via, scheme)

    def default_lines(self) -> bytes:
        """Lines of every answer: the date."""
        return self._shared.default_lines(self.server_state.default_headers)

    def answered(self, call: PlainCall, answer: bytes) -> None:
        """Write a call's answer, then go on with the next."""
        self.transport.write(answer)
        self._plain = None
        if not call.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def cut(self) -> None:
        """End in the middle of an answer."""
        self.transport.close()

    def start_over(self, call: PlainCall) -> None:
        """It turned out not to be usual: uvicorn's from here on, with the body that came."""
        cycle = self._cycle_of(call)
        cycle.body += call.body
        cycle.message_event.set()
        self._start_asgi_task(cycle, self.app)

    def carry_on(self, call: PlainCall, passed: Passed, answer: Answer) -> None:
        """Its answer comes piece by piece: passed on by a task."""
        cycle, gateway = self._cycle_of(call), self._shared.gateway
        if gateway is None:
            answer.close()
            return

        async def pass_on(scope: Any, receive: Any, send: Any) -> None:
            await gateway.carry_on(call, passed, answer, scope, receive, send)

        self._start_asgi_task(cycle, pass_on)

    def when_left(self, act: Callable[[], None]) -> None:
        """Do this when the client leaves before it was answered; at once, where it has left already."""
        if self._is_lost:
            act()
        else:
            self._leaving.append(act)

    def _take(self, size: int) -> PlainCall | None:
        """The call, where it is a usual one and nothing else is under way."""
        lane = self._shared.lane()
        cycle, parser = self.cycle, self.parser
        if (
            lane is None
            or (cycle is not None and not cycle.response_complete)
            or self.flow.write_paused
            or size > MAX_HEADER_BYTES
            or len(self.headers) > MAX_HEADER_LINES
            or parser.get_http_version() != "1.1"
            or parser.should_upgrade()
            or self.limit_concurrency is not None
            or self.access_log
        ):
            return None
        return lane.take(self, parser.get_method(), self.url, self.headers)

    def _start_coming(self) -> None:
        """Start the call whose body was waited for; one whose body is not here by now is uvicorn's."""
        call, self._coming = self._coming, None
        if call is None:
            return
        body = b"".join(self._pieces)
        if self._is_whole:
            self._plain = call
            call.start(body)
            return
        cycle = self._cycle_of(call)
        cycle.more_body = True
        cycle.body += body
        if body:
            cycle.message_event.set()
        self._start_asgi_task(cycle, self.app)

    def _cycle_of(self, call: PlainCall) -> RequestResponseCycle:
        """uvicorn's idea of a call that was taken as a usual one; its body, if it has any, is to be put in."""
        scope = self._scope(call.place.method, call.ahead.url, call.ahead.headers)
        cycle = self._make_cycle(scope, keep_alive=call.keep_alive)
        cycle.more_body = False
        cycle.disconnected = self._is_lost
        if self.cycle is call:
            self.cycle = cycle
        self._plain = None
        return cycle

    # --- all other requests --------------------------------------------------------------------------------------

    def _begin_cycle(self) -> None:
        parser = self.parser
        version = parser.get_http_version()
        if not is_plainly_framed(version, self.headers):
            raise BadFraming  # the parser ends with it, and 400 is answered
        self.scope = self._scope(parser.get_method().decode("ascii"), self.url, self.headers, version)
        self.expect_100_continue = any(
            name == b"expect" and value.lower() == b"100-continue" for name, value in self.headers
        )
        if self.parser.should_upgrade():
            self.scope["state"]["hand_over"] = self.hand_over
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._leaving.clear()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_until = self.loop.time() + self.timeout_keep_alive
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_at(self._idle_until, self._judge_idle)

    def _scope(self, method: str, url: bytes, headers: RawHeaders, version: str = "1.1") -> Any:
        path, _, query = url.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
            "method": method,
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "headers": headers,
            # Who holds the connection: uvicorn puts what trusted proxies say into `client`.
            "state": {**self.app_state, "peer": self.client[0] if self.client else ""},
            WHEN_LEFT: self.when_left,
        }

    def _make_cycle(self, scope: Any, *, keep_alive: bool) -> RequestResponseCycle:
        return RequestResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )

    def send_400_response(self, msg: str) -> None:
        """Malformed requests; uvicorn calls this."""
        self._refuse(BAD_REQUEST)

    # --- other protocols ------------------------------------------------------------------------------------------

    def _should_upgrade(self) -> bool:
        return False  # the application answers, and takes the connection over where it does so with 101

    def _wait_for_taker(self, early: bytes) -> None:
        """What follows is not HTTP: it waits for who takes the connection over; after a refusal the connection closes."""
        self._early += early
        self.flow.pause_reading()
        self.cycle.keep_alive = False

    def hand_over(self, taker: Taker, answer: bytes) -> None:
        """Answer, and go on as another protocol; this one still keeps the connection among those that the server knows."""
        self._stop_timer()
        self._taker = taker
        self.cycle.disconnected = True  # the server below us expects no answer any more
        taker.on_lost = self.connection_lost
        taker.connection_made(self.transport)
        self.transport.set_protocol(taker)  # type: ignore[arg-type]  # it is one
        self.transport.write(answer)
        if self._early:
            taker.data_received(self._early)
        self.flow.resume_reading()

    def shutdown(self) -> None:
        if self._taker is None:
            super().shutdown()
        else:
            self._taker.shutdown()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _tell_left(self) -> None:
        plain, self._plain = self._plain, None
        if plain is not None:
            plain.client_left()
        acts, self._leaving = self._leaving, []
        for act in acts:
            act()

    # --- time ----------------------------------------------------------------------------------------------------

    def _start_timer(self) -> None:
        act = self._judge_head if self._in_head else self._judge_body
        self._timer = self.loop.call_later(HEAD_SECONDS if self._in_head else BODY_SECONDS, act)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _judge_head(self) -> None:
        """A head has so many seconds in all."""
        if self._is_answering:  # some clients send an empty line after a body
            self._start_timer()
        elif self._unread:
            self._refuse(REQUEST_TIMEOUT)
        else:  # it never asked anything
            self.transport.close()

    def _judge_idle(self) -> None:
        """Between requests; set anew only when it rings, so that a busy connection has no timer for each answer."""
        self._idle_timer = None
        if self.transport.is_closing() or self._is_answering or self._timer is not None:
            return
        if self.loop.time() < self._idle_until:
            self._idle_timer = self.loop.call_at(self._idle_until, self._judge_idle)
        else:
            self.transport.close()

    def _judge_body(self) -> None:
        """A body has so many seconds between its pieces; those in which we did not read do not count."""
        if self.flow.read_paused:
            self._heard_at = self.loop.time()
        if self.loop.time() - self._heard_at < BODY_SECONDS:
            self._start_timer()
        else:
            self._refuse(REQUEST_TIMEOUT)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what cannot become a call and close; an answer that has begun, or an earlier one, just ends here."""
        if self._is_answering:
            if self.cycle.response_started or self.pipeline:
                self.transport.close()
                return
            self._coming = None
            if isinstance(self.cycle, PlainCall):
                self._tell_left()
            else:
                self.cycle.disconnected = True  # what the application still says goes nowhere
                self.cycle.message_event.set()
        request_id = new_request_id()
        log.info("refused", request_id=request_id, code=refusal.code, status=refusal.status)
        headers, body = problem_answer(refusal, request_id=request_id, path="")
        lines = [b"%s: %s\r\n" % pair for pair in encoded([*headers, ("Connection", "close")])]
        self.transport.write(b"".join([STATUS_LINE[refusal.status], *lines, b"\r\n", body]))
        self.transport.close()
