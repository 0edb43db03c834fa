"""The server's HTTP protocol with the bounds that uvicorn lacks: `uvicorn --http gateway.protocol:GuardedProtocol`.

uvicorn reads heads of any size for any time, answers malformed ones in plain text, and lets trailers of a body pass for
headers. Here a head has 10 s and 64 kB (the gateway itself refuses from 32 kB, with the exact count), a client that stops
sending its body or reading its answer has 60 s, and every answer is a problem document.
"""

import asyncio
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

import gateway.app  # noqa: F401 - it sets Django up before what follows imports models
from core.request_id import new_request_id
from gateway.headers import encoded
from gateway.problems import BAD_REQUEST, HEADERS_TOO_LARGE, REQUEST_TIMEOUT, problem_answer
from metering.answers import Refusal

log = structlog.get_logger("gateway")

MAX_UNREAD_BYTES = 64 * 1024
HEAD_SECONDS = 10.0
BODY_SECONDS = 60.0
WRITE_SECONDS = 60.0


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._unread = 0  # bytes since the parser last handed out a head or a piece of body
        self._in_head = True
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._unread += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._unread > MAX_UNREAD_BYTES:
            self._refuse(HEADERS_TOO_LARGE)
        elif self._in_head and not self._unread:  # between requests uvicorn keeps the time
            self._stop_timer()
        else:
            self._heard_at = self.loop.time()
            if self._timer is None:
                self._start_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        # Who holds the connection: uvicorn puts what trusted proxies say into `client`.
        self.scope["state"]["peer"] = self.client[0] if self.client else ""

    def on_headers_complete(self) -> None:
        self._in_head, self._unread = False, 0
        self._stop_timer()
        super().on_headers_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what comes later are trailers, which nobody asked for
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head, self._unread = True, 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Malformed requests; uvicorn calls this."""
        self._refuse(BAD_REQUEST)

    def _should_upgrade(self) -> bool:
        return False  # the application answers 501

    def _unsupported_upgrade_warning(self) -> None:
        pass

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

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
            self.cycle.disconnected = True  # what the application still says goes nowhere
            self.cycle.message_event.set()
        request_id = new_request_id()
        log.info("refused", request_id=request_id, code=refusal.code, status=refusal.status)
        headers, body = problem_answer(refusal, request_id=request_id, path="")
        lines = [b"%s: %s\r\n" % pair for pair in encoded([*headers, ("Connection", "close")])]
        self.transport.write(b"".join([STATUS_LINE[refusal.status], *lines, b"\r\n", body]))
        self.transport.close()
