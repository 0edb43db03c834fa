"""One plain call, step by step, each step told by whoever finished the one before: the usage Redis, the upstream, the client.

    start -> admitted (Redis) -> answered (upstream) -> settled (Redis) -> written

Nothing is awaited, so no task is made; what the connection to the client writes leaves in one piece. The rules are those of
gateway/call.py. What is not usual goes on there: an admission that has to be asked again, an answer that does not come whole.
"""

import asyncio
import time
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import NoScriptError
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from core.ids import new_nonce
from core.redis_loop import NotSent
from core.request_id import new_request_id
from gateway.headers import answer_lines, encoded, withheld
from gateway.problems import (
    CLIENT_GONE_STATUS,
    INTERNAL_ERROR,
    NOT_RECORDED,
    UPSTREAM_TIMEOUT,
    UPSTREAM_UNAVAILABLE,
    problem_answer,
)
from gateway.upstream.answer import NO_BODY, Answer
from gateway.upstream.connection import Connection, RawHeader
from gateway.upstream.errors import ClientGone, StaleConnection, UpstreamTimeout, UpstreamUnavailable
from metering.admission import billing_reason
from metering.answers import METERING_UNAVAILABLE, Headers, Refusal, limited
from metering.calls import Refused
from metering.prepared import Passed, PreparedCall

if TYPE_CHECKING:
    from gateway.headers import RawHeaders
    from gateway.lane import Lane, Place
    from gateway.protocol import GuardedProtocol

log = structlog.get_logger("gateway")
_NOTHING = b"farebox-units: 0\r\n"


class Ahead:
    """What of the request is needed again where the general way takes over."""

    __slots__ = ("headers", "key_hash", "size", "url")

    def __init__(self, url: bytes, headers: "RawHeaders", key_hash: bytes, size: int) -> None:
        self.url, self.headers, self.key_hash, self.size = url, headers, key_hash, size


class PlainCall:
    """Waiter of its admission, listener of its upstream, and the `cycle` of its connection (as uvicorn names what is being
    answered: `response_complete`, `response_started`, `disconnected`, `keep_alive`)."""

    __slots__ = (
        "_answer", "_connecting", "_connection", "_is_over", "_lane", "_passed", "_protocol", "_ready", "_refusal",
        "_request", "_settled_with", "ahead", "body", "bytes_out", "disconnected", "keep_alive", "nonce", "place",
        "request_id", "response_complete", "response_started", "started_at",
    )  # fmt: skip

    def __init__(
        self, lane: "Lane", protocol: "GuardedProtocol", ahead: Ahead, place: "Place", ready: PreparedCall,
        request: list[bytes],
    ) -> None:  # fmt: skip
        self._lane, self._protocol, self.place, self._ready, self._request = (
            lane,
            protocol,
            place,
            ready,
            request,
        )
        self.ahead = ahead
        self.started_at = time.monotonic()
        self.response_complete = self.response_started = self.disconnected = False
        self.keep_alive = True
        self.body = b""
        self.bytes_out = 0
        self._is_over = False
        self._passed: Passed | None = None
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._answer: tuple[int, list[RawHeader], bytes] | None = None
        self._refusal: Refusal | None = None
        self._settled_with = ""

    # --- admission -----------------------------------------------------------------------------------------------

    def start(self, body: bytes) -> None:
        """Ask the script; the reply comes to `set_result` or `set_exception`."""
        self.body = body
        self.request_id = new_request_id()
        nonce = self.nonce = new_nonce()
        lane = self._lane
        lane.live.add(self)
        lane.recorder.engine.post(self._ready.admit_command(nonce), self)

    def done(self) -> bool:
        """Whether nobody waits for the admission: somebody always does."""
        return False

    def set_result(self, reply: Any) -> None:
        """The script's reply."""
        try:
            answer = self._ready.read(self.nonce, reply)
            if isinstance(answer, Passed):
                self._admitted(answer)
            elif isinstance(answer, Refused):
                self._end_with(limited(answer))
            else:  # nothing was counted: asked again with a newer record or another span
                self._go_general_way()
        except Exception as error:
            self._fail(error)

    def set_exception(self, error: Exception) -> None:
        """Redis did not answer. What did not run goes the general way, which waits for a connection, loads the script and
        follows a slot that is being moved."""
        if isinstance(error, NotSent | NoScriptError):
            self._go_general_way()
        else:
            self._end_with(METERING_UNAVAILABLE)

    def _admitted(self, passed: Passed) -> None:
        self._passed = passed
        self._lane.recorder.hold(passed)
        if self.disconnected:
            self._settle(CLIENT_GONE_STATUS, "client_gone")
            return
        self._request += (self.request_id.encode(), b"\r\n", self.place.credential, b"\r\n", self.body)
        self._ask()

    # --- the upstream --------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        place = self.place
        connection = self._lane.pool.take(place.origin)
        if connection is None:
            self._connecting = asyncio.create_task(self._connect())
        else:
            self._send(connection)

    def _send(self, connection: Connection) -> None:
        self._connection = connection
        place = self.place
        connection.ask(self, b"".join(self._request), is_head=place.is_head, timeout_s=place.timeout_s)

    async def _connect(self) -> None:
        place = self.place
        try:
            connection = await self._lane.pool.connection(
                place.origin, connect_s=place.connect_s, wait_s=place.timeout_s
            )
            self._send(connection)
        except UpstreamUnavailable as error:
            self.on_failed(error)
        except Exception as error:
            self._fail(error)
        finally:
            self._connecting = None

    def on_answer(self) -> None:
        """The upstream's head is there, and mostly the body with it."""
        try:
            connection = self._connection
            if connection is None:
                return
            if not connection.is_complete:
                self._stream(connection)
                return
            status, headers, body = connection.status, connection.headers, connection.take()
            self._connection = None
            self._lane.pool.give_back(connection)
            self._answer = (status, headers, body)
            self.bytes_out = len(body)
            self._settle(
                status,
                "" if status < 400 else billing_reason(status, bill_client_errors=self.place.route.bill_client_errors),
            )  # fmt: skip
        except Exception as error:
            self._fail(error)

    def on_more(self) -> None:
        """Answers that do not come whole are somebody else's."""

    def on_failed(self, error: Exception) -> None:
        """There will be no answer."""
        self._connection = None
        try:
            if isinstance(error, ClientGone):
                self._settle(CLIENT_GONE_STATUS, "client_gone")
            elif isinstance(error, StaleConnection) and self.place.is_repeatable:
                self._ask()
            elif isinstance(error, UpstreamTimeout):
                self._refuse_settled(UPSTREAM_TIMEOUT, "upstream_timeout")
            else:
                self._refuse_settled(UPSTREAM_UNAVAILABLE, "upstream_unavailable")
        except Exception as fault:
            self._fail(fault)

    def client_left(self) -> None:
        """The connection to the client is gone."""
        if self.disconnected:
            return
        self.disconnected = True
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
            self._settle(CLIENT_GONE_STATUS, "client_gone")
        elif self._connection is not None:
            self._connection.fail(ClientGone())

    def _stream(self, connection: Connection) -> None:
        """An answer that does not come whole is passed on by a task."""
        self._connection = None
        passed = self._passed
        if passed is None:
            return
        answer = Answer(connection, self._lane.pool, self.place.method)
        self._request.clear()
        self._leave()
        self._protocol.carry_on(self, passed, answer)

    # --- the end -------------------------------------------------------------------------------------------------

    def _refuse_settled(self, refusal: Refusal, reason: str) -> None:
        self._refusal = refusal
        self._settle(refusal.status, reason)

    def _settle(self, status: int, reason: str) -> None:
        passed = self._passed
        if passed is None or self._is_over:
            return
        self._is_over = True
        self._settled_with = reason
        duration_us = int((time.monotonic() - self.started_at) * 1_000_000)
        sizes = self.ahead.size, self.bytes_out
        event = passed.event(status, duration_us, *sizes, reason, self.request_id)
        if reason or self._lane.logs_calls:
            self._log(status, duration_us)
        self._lane.recorder.end_prepared(
            passed, event, self._settled, is_billed=not reason,
            unbilled=lambda: passed.event(status, duration_us, *sizes, "expired", self.request_id),
        )  # fmt: skip

    def _settled(self, *, is_recorded: bool) -> None:
        try:
            self._leave()
            if self._answer is not None:
                self._write_answer(*self._answer, is_recorded=is_recorded)
            elif self._refusal is not None:
                self._write_problem(self._refusal)
        except Exception as error:
            log.exception("call_failed", request_id=self.request_id, error=type(error).__name__)
            self._protocol.cut()

    def _write_answer(self, status: int, headers: list[RawHeader], body: bytes, *, is_recorded: bool) -> None:
        passed = self._passed
        if self.disconnected or passed is None:
            return
        if not is_recorded and not body:
            self._write_problem(NOT_RECORDED)
            return
        shown = withheld(headers, self.place.route.upstream.credential) if self.place.credential else headers
        head = [
            STATUS_LINE[status],
            self._protocol.default_lines(),
            *answer_lines(shown, drops_length=True),
        ]
        if self.place.is_head:
            head += [
                b"content-length: %b\r\n" % value for name, value in headers if name == b"content-length"
            ]
        elif status not in NO_BODY:
            head.append(b"content-length: %d\r\n" % len(body))
        head += (passed.rate_lines(), b"x-request-id: ", self.request_id.encode(), b"\r\n")
        head.append(_NOTHING if self._settled_with else self.place.units_line)
        if not self.keep_alive:
            head.append(b"connection: close\r\n")
        head += (b"\r\n", body if is_recorded else body[:-1])
        self._write(head)
        if not is_recorded:  # begun and not completed: the call is not in the stream
            self._protocol.cut()

    def _write_problem(self, refusal: Refusal) -> None:
        if self.disconnected:
            return
        path = self.ahead.url.partition(b"?")[0].decode("ascii")
        headers, body = problem_answer(refusal, request_id=self.request_id, path=path)
        more: Headers = [] if self.keep_alive else [("Connection", "close")]
        lines = [b"%b: %b\r\n" % pair for pair in encoded([*headers, *more])]
        rates = self._passed.rate_lines() if self._passed is not None else b""
        is_head = self.place.is_head
        self._write(
            [STATUS_LINE[refusal.status], self._protocol.default_lines(), *lines, rates, b"\r\n", b"" if is_head else body]
        )  # fmt: skip

    def _write(self, pieces: list[bytes]) -> None:
        self.response_started = self.response_complete = True
        self._protocol.answered(self, b"".join(pieces))

    def _end_with(self, refusal: Refusal) -> None:
        """Not let through: nothing to settle."""
        self._leave()
        log.info(
            "refused", request_id=self.request_id, code=refusal.code, status=refusal.status, method=self.place.method
        )  # fmt: skip
        self._write_problem(refusal)

    def _go_general_way(self) -> None:
        self._leave()
        if not self.disconnected:
            self._protocol.start_over(self)

    def _leave(self) -> None:
        self._is_over = True
        self._lane.live.discard(self)

    def abandon(self) -> None:
        """The server stops and waits no longer; one that is admitted in this moment ends as if its client had left."""
        if self._is_over:  # being settled: the answer leaves then
            return
        self.disconnected = self.disconnected or self._passed is None
        self._give_up(INTERNAL_ERROR.status)

    def _fail(self, error: Exception) -> None:
        """A fault of ours: not billed, but told."""
        log.exception("call_failed", request_id=self.request_id, error=type(error).__name__)
        if self._passed is None:
            self._end_with(INTERNAL_ERROR)
        elif self._is_over:  # on its way to being settled, or written: nothing else can be said
            self._leave()
            self._lane.recorder.let_go(self._passed)  # what broke before it left expires
            self._protocol.cut()
        else:
            self._refusal = INTERNAL_ERROR
            self._give_up(INTERNAL_ERROR.status)

    def _give_up(self, status: int) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        if self._connecting is not None:
            self._connecting.cancel()
        self._answer = None
        self._settle(status, "gateway_error")

    def _log(self, status: int, duration_us: int) -> None:
        """A line for each call that failed; for all of them where the installation wants it."""
        record, place = self._ready.record, self.place
        log.info(
            "call", request_id=self.request_id, organization=record.organization_public_id,
            key=record.key_public_id, mode=record.mode, route=place.route.public_id, method=place.method, status=status,
            reason=self._settled_with, duration_us=duration_us, bytes_in=self.ahead.size, bytes_out=self.bytes_out,
        )  # fmt: skip
