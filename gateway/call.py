"""One call from admission to settling."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import structlog
from django.conf import settings

from core.ids import new_nonce
from gateway.caller import Callers
from gateway.caller import Refused as CallerRefused
from gateway.headers import answer_headers, find_header, upstream_headers, withheld
from gateway.pool_call import PoolCall
from gateway.pools import Server, Upstream
from gateway.problems import (
    BODY_TOO_LARGE,
    CLIENT_GONE_STATUS,
    NOT_RECORDED,
    UPSTREAM_TIMEOUT,
    UPSTREAM_UNAVAILABLE,
    send_refusal,
)
from gateway.proxy import (
    NO_BODY,
    Answer,
    Body,
    BodyTooLarge,
    ClientGone,
    HeldBack,
    Receive,
    Send,
    UpstreamCut,
    UpstreamTimeout,
    UpstreamUnavailable,
    ask_upstream,
    has_request_body,
)
from gateway.recorder import Recorder
from gateway.replays.keeper import Keeper
from gateway.routes import RouteEntry
from gateway.upstream.pool import Pool
from keys.records import KeyRecord
from metering.admission import ATTEMPTS, Outcome, admission, billing_reason, call_event, not_entitled
from metering.answers import (
    INVALID_KEY,
    LARGER_THAN_LIMIT,
    METERING_UNAVAILABLE,
    Headers,
    Refusal,
    admitted_headers,
    limited,
)
from metering.calls import Admission, Admitted, NoState, Refused, Settlement, Stale, WrongSpan
from metering.scoped import never_fits
from plans.door import Span

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Call:
    """Everything about one request that has a key and a route."""

    scope: dict[str, Any]
    receive: Receive
    send: Send
    request_id: str
    key_hash: bytes
    record: KeyRecord
    route: RouteEntry
    path: str
    started_at: float
    keeper: Keeper | None = None  # writes the answer down for retries (gateway/replays)

    @property
    def method(self) -> str:
        method: str = self.scope["method"]
        return method

    def duration_us(self) -> int:
        return int((time.monotonic() - self.started_at) * 1_000_000)


@dataclass(frozen=True, slots=True)
class Passed:
    """An admitted call: what was asked, what was answered, and the headers that say what is left."""

    request: Admission
    answer: Admitted
    headers: Headers


class CallRefused(Exception):
    """The call is not let through."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.code)


Sizing = Callable[[KeyRecord, Admission], Admission]


async def admit(call: Call, callers: Callers, recorder: Recorder, size: Sizing | None = None) -> Passed:
    """Ask the script; read an outdated record again once, choose the span again once. `size` says what else the call is
    charged to.

    Raises CallRefused, or MeteringUnavailable when Redis does not answer.
    """
    at_us, nonce = time.time_ns() // 1000, new_nonce()
    for _ in range(ATTEMPTS):
        span = call.record.span_at(at_us)
        if span is None:
            await _reload(call, callers)
            span = call.record.span_at(at_us)
            if span is None:
                raise CallRefused(METERING_UNAVAILABLE)
        request = admission(call.record, span, call.route.target, nonce=nonce)
        if size is not None:
            request = size(call.record, request)
        if (request.weighted or request.daily) and never_fits(request):
            raise CallRefused(LARGER_THAN_LIMIT)
        answer = await recorder.engine.admit(request)
        match answer:
            case Admitted():
                return Passed(request, answer, _headers(answer, span))
            case Refused():
                raise CallRefused(limited(answer))
            case Stale():
                await _reload(call, callers)
            case WrongSpan():
                at_us = answer.now_us
            case NoState():
                log.error(
                    "organization_state_lost",
                    organization=call.record.organization_public_id,
                    hint="manage.py rebuild_counters",
                )
                raise CallRefused(METERING_UNAVAILABLE)
    raise CallRefused(METERING_UNAVAILABLE)


def entitlement(record: KeyRecord, route: RouteEntry) -> Refusal | None:
    """401 or 403 by what the worker knows; the script decides where limits and versions matter."""
    return not_entitled(
        record, product=route.product_slug, route=route.public_id, feature=route.required_feature,
        at_us=time.time_ns() // 1000,
    )  # fmt: skip


async def _reload(call: Call, callers: Callers) -> None:
    """Read the record again; the key may have been revoked or rotated, or lost the route. Raises CallRefused."""
    try:
        record = await callers.reload(call.key_hash)
    except CallerRefused as error:
        raise CallRefused(error.refusal) from error
    if record is None or record.revoked:
        raise CallRefused(INVALID_KEY)
    call.record = record
    if refusal := entitlement(record, call.route):
        raise CallRefused(refusal)


def _headers(answer: Admitted, span: Span) -> Headers:
    headers = admitted_headers(answer)
    if span.warning:
        headers.append(("Farebox-Warning", span.warning))
    return headers


class Exchange:
    """The proxied part of an admitted call: ask, pass the answer on, settle before its end leaves."""

    def __init__(self, call: Call, passed: Passed, recorder: Recorder, session: Pool) -> None:
        self.call, self.passed, self.recorder, self.session = call, passed, recorder, session
        self.body = Body.of(call.scope, call.receive, call.route.body_limit)
        self.reservation = passed.request.reserved_at(passed.answer.occurred_at_us)
        self.bytes_out = 0
        self.pooled: PoolCall | None = None  # where the product has several servers

    async def run(self) -> None:
        """Carry the call out and settle it; what breaks before that expires unbilled."""
        self.recorder.hold(self.reservation)
        try:
            await self._run()
        finally:
            self.recorder.let_go(self.reservation)
            self.body.close()
            if self.pooled is not None:
                self.pooled.release()

    async def go_on(self, answer: Answer) -> None:
        """The same from an answer on that has begun (gateway/plain_call.py)."""
        try:
            self.body.watch()
            await self._pass_on(answer)
        finally:
            answer.close()
            self.recorder.let_go(self.reservation)
            self.body.close()

    async def _run(self) -> None:
        try:
            answer = await self._ask()
        except (UpstreamUnavailable, UpstreamTimeout, BodyTooLarge) as error:
            refusal = _FAILURES[type(error)]
            await self._settle(refusal.status, _FAILURE_REASONS[type(error)])
            await self._refuse(refusal)
            return
        except ClientGone:
            await self._settle(CLIENT_GONE_STATUS, "client_gone")
            return
        except BaseException:
            await self._settle(500, "gateway_error")
            raise
        try:
            await self._pass_on(answer)
        finally:
            answer.close()

    async def _ask(self) -> Answer:
        route = self.call.route
        if route.pool is None:
            return await self._ask_at(route.upstream)
        has_body = has_request_body(self.call.scope["headers"])
        self.pooled = PoolCall(
            route.pool, method=self.call.method, body=self.body, has_body=has_body, timeout_s=route.timeout_s
        )
        return await self.pooled.ask(self._ask_server)

    async def _ask_server(self, server: Server) -> Answer:
        return await self._ask_at(server.upstream)

    async def _ask_at(self, upstream: Upstream) -> Answer:
        call, headers = self.call, self.call.scope["headers"]
        has_body = has_request_body(headers)
        if not has_body:
            self.body.watch()
        query = call.scope["query_string"].decode("latin-1")
        url = upstream.base_url + call.path + (f"?{query}" if query else "")
        sent = upstream_headers(
            headers, call.record, request_id=call.request_id, forwarded=forwarded(call.scope),
            credential=upstream.credential,
        )  # fmt: skip
        return await ask_upstream(
            self.session, method=call.method, url=url, headers=sent, body=self.body, has_body=has_body,
            connect_timeout_s=upstream.connect_timeout_s, timeout_s=call.route.timeout_s,
            stops_with_client=call.keeper is None,
        )  # fmt: skip

    async def _pass_on(self, answer: Answer) -> None:
        reason = billing_reason(answer.status, bill_client_errors=self.call.route.bill_client_errors)
        units = "0" if reason else self.call.route.units_text
        ours = [*self.passed.headers, ("X-Request-Id", self.call.request_id), ("Farebox-Units", units)]
        theirs = withheld(answer.headers, self.call.route.upstream.credential)
        start = {
            "type": "http.response.start",
            "status": answer.status,
            "headers": answer_headers(theirs, ours, may_have_length=answer.status not in NO_BODY),
        }
        whole = answer.whole_body()
        if whole is None:
            await self._send_as_it_comes(answer, start, reason)
        else:
            await self._send_whole(whole, start, reason)

    async def _send_whole(self, body: bytes, start: dict[str, Any], reason: str) -> None:
        """One write for head and body, after settling."""
        self.bytes_out = len(body)
        if await self._settle(start["status"], reason):
            await self.call.send(start)
            await self.call.send({"type": "http.response.body", "body": body})
        elif not body:
            await self._refuse(NOT_RECORDED)
        else:  # begun and not completed: the server below us cuts the connection
            await self.call.send(start)
            await self.call.send({"type": "http.response.body", "body": body[:-1], "more_body": True})

    async def _send_as_it_comes(self, answer: Answer, start: dict[str, Any], reason: str) -> None:
        await self.call.send(start)
        length = answer.header(b"content-length")
        held = HeldBack(
            self.call.send,
            length=int(length) if length is not None else None,
            is_event_stream=answer.is_event_stream,
        )
        keeper = self.call.keeper
        self.body.on_leaving(answer.close if keeper is None else keeper.when_left(answer.close))
        try:
            reason, is_whole = await self._stream(answer, held, reason)
        except (
            BaseException
        ):  # a shutdown, or a fault of ours, in the middle of an answer: not billed, but told
            self.bytes_out = held.size
            await self._settle(answer.status, "gateway_error")
            raise
        self.bytes_out = held.size
        if await self._settle(answer.status, reason) and is_whole:
            await held.finish()
        # otherwise the server below us cuts the connection: the answer is not complete

    async def _stream(self, answer: Answer, held: HeldBack, reason: str) -> tuple[str, bool]:
        """Pass the body on; the reason for billing it or not, and whether it came whole."""
        try:
            async for chunk in answer.chunks():
                if not self.recorder.holds(self.reservation):
                    return "expired", False
                await held.pass_on(chunk)
                if self._is_over:
                    break
        except (UpstreamCut, UpstreamTimeout) as error:
            if self.body.is_gone:
                return reason, False  # we closed the upstream because the client left: delivered is billed
            return ("upstream_timeout" if isinstance(error, UpstreamTimeout) else "upstream_error"), False
        if self._is_over:
            return reason, False
        return ("upstream_error", False) if held.is_short else (reason, True)

    @property
    def _is_over(self) -> bool:
        """Nobody waits for the rest any more, not even a retry."""
        return self.body.is_gone and self.call.keeper is None

    async def _settle(self, status: int, reason: str) -> bool:
        call, passed, target = self.call, self.passed, self.call.route.target
        if self.pooled is not None:
            self.pooled.end(status, reason)
        outcome = Outcome(status, reason, call.duration_us(), self.body.size, self.bytes_out)
        settlement = Settlement.of(
            passed.request, units=0 if reason else target.units, event=self._event(outcome),
            at_us=passed.answer.occurred_at_us,
        )  # fmt: skip
        self._log(outcome)
        is_recorded = await self.recorder.settle(
            settlement, lambda: self._event(replace(outcome, reason="expired"))
        )
        if call.keeper is not None:
            call.keeper.settled(passed.answer.event_id, reason=reason, is_recorded=is_recorded)
        return is_recorded

    def _log(self, outcome: Outcome) -> None:
        """A line for each call that failed; for all of them where the installation wants it."""
        if not outcome.reason and not settings.GATEWAY_LOG_CALLS:
            return
        log.info(
            "call", request_id=self.call.request_id, organization=self.call.record.organization_public_id,
            key=self.call.record.key_public_id, mode=self.call.record.mode, route=self.call.route.public_id,
            method=self.call.method, status=outcome.status, reason=outcome.reason, duration_us=outcome.duration_us,
            bytes_in=outcome.bytes_in, bytes_out=outcome.bytes_out, **tried_again(self.pooled),
        )  # fmt: skip

    def _event(self, outcome: Outcome) -> bytes:
        event = call_event(
            self.call.record, self.passed.request, self.call.route.target, outcome,
            admitted=self.passed.answer, door="gateway", request_id=self.call.request_id,
        )  # fmt: skip
        if attempts := tried_again(self.pooled):
            event = replace(event, properties=attempts)
        return event.to_json()

    async def _refuse(self, refusal: Refusal) -> None:
        if not self.body.is_gone:
            await send_refusal(
                self.call.send, refusal, request_id=self.call.request_id,
                path=f"/{self.call.route.product_slug}{self.call.path}", method=self.call.method,
                extra=self.passed.headers,
            )  # fmt: skip


_FAILURES: dict[type[Exception], Refusal] = {
    UpstreamUnavailable: UPSTREAM_UNAVAILABLE,
    UpstreamTimeout: UPSTREAM_TIMEOUT,
    BodyTooLarge: BODY_TOO_LARGE,
}
_FAILURE_REASONS: dict[type[Exception], str] = {
    UpstreamUnavailable: "upstream_unavailable",
    UpstreamTimeout: "upstream_timeout",
    BodyTooLarge: "client_error",
}


def tried_again(pooled: PoolCall | None) -> dict[str, int]:
    """How many servers were asked, of calls for which one was not enough; a property of their events."""
    return {"attempts": pooled.attempts} if pooled is not None and pooled.attempts > 1 else {}


def forwarded(scope: dict[str, Any]) -> Headers:
    """Where the request came from, by what the server below us knows (it follows trusted proxies)."""
    host = find_header(scope["headers"], b"host") or b""
    client = scope.get("client")
    return [
        ("X-Forwarded-For", client[0] if client else "unknown"),
        ("X-Forwarded-Proto", scope.get("scheme", "http")),
        ("X-Forwarded-Host", host.decode("latin-1")),
    ]
