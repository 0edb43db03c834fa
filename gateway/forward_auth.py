"""The gate of gateways that are not ours: nginx' auth_request, Caddy's forward_auth, Traefik's ForwardAuth, Envoy's ext_authz.

They ask before they pass a call on, with the client's own headers; we admit it as if it had come to us. A call is billed
at once, or, where the other gateway reports how it ended, when it does (docs/forward-auth.md).
"""

import time
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

import structlog
from django.conf import settings

from gateway.call import Call, CallRefused, Passed, admit, entitlement
from gateway.caller import Callers
from gateway.caller import Refused as CallerRefused
from gateway.dialects import (
    NOT_TRUSTED,
    REFUSAL_PURPOSE,
    REFUSED,
    REPORT,
    Dialect,
    Inquiry,
    Original,
    client_address,
    is_trusted,
    read_address,
    read_original,
    refuse_for,
)
from gateway.headers import RawHeaders, encoded, find_header, header_fault
from gateway.problems import BAD_REQUEST, HEADER_FAULTS, NOT_FOUND, send_refusal
from gateway.proxy import Send
from gateway.recorder import Recorder
from gateway.reservations import Pending, Unreported, settle
from gateway.routes import RouteEntry
from gateway.tokens import unseal
from keys.records import KeyRecord
from metering.answers import METERING_UNAVAILABLE, Headers, Refusal
from metering.engine import MeteringUnavailable

log = structlog.get_logger("gateway")
Scope = dict[str, Any]
FindRoute = Callable[[str, str], tuple[RouteEntry, str] | Refusal]

REPORT_TOO_LATE = Refusal(
    "report_too_late", 409, "The report comes too late", "The call was settled without it, as the settings say."
)  # fmt: skip


class ForwardAuth:
    """One per worker."""

    def __init__(self, callers: Callers, find_route: FindRoute) -> None:
        self._callers, self._find_route = callers, find_route
        self._recorder: Recorder | None = None
        self._unreported: Unreported | None = None

    def start(self, recorder: Recorder) -> None:
        self._recorder, self._unreported = recorder, Unreported(recorder)
        self._unreported.start()

    async def stop(self) -> None:
        if self._unreported is not None:
            await self._unreported.stop()

    async def answer(self, scope: Scope, send: Send, raw_path: str, request_id: str) -> Refusal | None:
        """Answer a gateway that is trusted, or say why not."""
        peer = scope["state"].get("peer", "")
        if not is_trusted(peer):
            log.warning("forward_auth_not_trusted", peer=peer, hint="FAREBOX_FORWARD_AUTH_FROM")
            return NOT_TRUSTED
        headers = scope["headers"]
        if raw_path == REPORT:
            return await self._take_report(headers, send, request_id)
        if raw_path == REFUSED:
            return await _repeat_refusal(headers, send)
        inquiry = read_address(raw_path)
        if inquiry is None:
            return NOT_FOUND
        fault = header_fault(headers)  # told in this gateway's words, too
        original = HEADER_FAULTS[fault] if fault else read_original(inquiry, scope["method"], headers)
        try:
            if isinstance(original, Refusal):
                raise CallRefused(original)
            allowed = await self._admit(scope, inquiry, original, client_address(headers, peer), request_id)
        except CallRefused as error:
            await _refuse(send, inquiry.dialect, error.refusal, original, request_id)
            return None
        await _send_empty(send, 200, [*allowed, *inquiry.dialect.more, ("X-Request-Id", request_id)])
        return None

    async def _admit(
        self, scope: Scope, inquiry: Inquiry, original: Original, address: str, request_id: str
    ) -> Headers:
        """Admit the call; the headers that tell the other gateway of it. Raises CallRefused."""
        started_at = time.monotonic()
        try:
            key_hash, record = await self._callers.identify(scope["headers"], address)
            found = self._find_route(original.method, original.path)
            if isinstance(found, Refusal):
                raise CallRefused(found)
            if entitlement(record, found[0]):
                record = await self._callers.at_most_a_second_old(key_hash, record)
        except CallerRefused as error:
            raise CallRefused(error.refusal) from error
        call = Call(scope, _nothing, _nowhere, request_id, key_hash, record, *found, started_at)
        try:
            if refusal := entitlement(record, call.route):
                raise CallRefused(refusal)
            passed = await admit(call, self._callers, self.recorder)
        except CallRefused as error:
            self._count(call.record, error.refusal)
            raise
        except MeteringUnavailable as error:
            raise CallRefused(METERING_UNAVAILABLE) from error
        return [*passed.headers, *_identity(call.record), *await self._reserve_or_bill(call, passed, inquiry)]

    async def _reserve_or_bill(self, call: Call, passed: Passed, inquiry: Inquiry) -> Headers:
        """Wait for the report that was promised, or bill the call now with an unknown end. Raises CallRefused."""
        pending = Pending.of(
            call.record, passed.request, passed.answer, call.route.target,
            bill_client_errors=call.route.bill_client_errors, request_id=call.request_id,
        )  # fmt: skip
        if inquiry.will_report:
            self.unreported.add(pending)
            return [("X-Farebox-Reservation", pending.sealed())]
        if not await settle(self.recorder, pending, None):
            raise CallRefused(METERING_UNAVAILABLE)
        return [("Farebox-Units", call.route.units_text)]

    async def _take_report(self, headers: RawHeaders, send: Send, request_id: str) -> Refusal | None:
        """How a call ended. Repeated reports change nothing."""
        pending = Pending.unsealed(_text(headers, b"x-farebox-reservation"))
        status = _whole(_text(headers, b"x-farebox-status"))
        if pending is None or status is None:
            return BAD_REQUEST
        age_us = time.time_ns() // 1000 - pending.occurred_at_us
        if age_us > settings.FORWARD_AUTH_REPORT_SECONDS * 1_000_000:
            return REPORT_TOO_LATE
        outcome = pending.outcome(
            status, duration_us=_micros(_text(headers, b"x-farebox-seconds")),
            bytes_in=_whole(_text(headers, b"x-farebox-bytes-in")) or 0,
            bytes_out=_whole(_text(headers, b"x-farebox-bytes-out")) or 0,
        )  # fmt: skip
        if not await settle(self.recorder, pending, outcome):
            return METERING_UNAVAILABLE
        self.unreported.reported(pending)
        await _send_empty(send, 204, [("X-Request-Id", request_id)])
        return None

    @property
    def recorder(self) -> Recorder:
        if self._recorder is None:
            raise RuntimeError("the gateway has not started")
        return self._recorder

    @property
    def unreported(self) -> Unreported:
        if self._unreported is None:
            raise RuntimeError("the gateway has not started")
        return self._unreported

    def _count(self, record: KeyRecord, refusal: Refusal) -> None:
        if refusal.counted:
            self.recorder.refuse(
                record.shard, record.organization_id, record.mode, record.key_id, refusal.code
            )


def _identity(record: KeyRecord) -> Headers:
    """Who called, for the API behind the other gateway."""
    return [
        ("X-Farebox-Organization", record.organization_public_id),
        ("X-Farebox-Plan", record.plan_slug),
        ("X-Farebox-Key-Id", record.key_public_id),
        ("X-Farebox-Mode", record.mode),
    ]


async def _refuse(
    send: Send, dialect: Dialect, refusal: Refusal, original: Original | Refusal, request_id: str
) -> None:
    path, method = (original.path, original.method) if isinstance(original, Original) else ("", "GET")
    log.info(
        "refused",
        request_id=request_id,
        code=refusal.code,
        status=refusal.status,
        method=method,
        door="forward",
    )
    passed, extra = refuse_for(dialect, refusal, request_id=request_id, path=path, method=method)
    await send_refusal(send, passed, request_id=request_id, path=path, method=method, extra=extra)


async def _repeat_refusal(headers: RawHeaders, send: Send) -> Refusal | None:
    """The refusal in a sealed word, as the client shall get it."""
    facts = unseal(REFUSAL_PURPOSE, _text(headers, b"x-farebox-refusal"))
    if facts is None:
        return BAD_REQUEST
    told: Headers = [(name, value) for name, value in facts["h"]]
    refusal = Refusal(facts["c"], facts["s"], facts["t"], facts["d"], told)
    await send_refusal(send, refusal, request_id=facts["r"], path=facts["p"], method="GET")
    return None


async def _send_empty(send: Send, status: int, headers: Headers) -> None:
    ours = [*headers, ("Cache-Control", "no-store")]
    if status != 204:
        ours.append(("Content-Length", "0"))
    await send({"type": "http.response.start", "status": status, "headers": encoded(ours)})
    await send({"type": "http.response.body", "body": b""})


async def _nothing() -> dict[str, Any]:
    """The call's body goes to the API, not to us."""
    return {"type": "http.disconnect"}


async def _nowhere(message: dict[str, Any]) -> None:
    """The call's answer goes to the client, not through us."""


def _text(headers: RawHeaders, name: bytes) -> str:
    return (find_header(headers, name) or b"").decode("latin-1")


def _whole(text: str) -> int | None:
    return int(text) if len(text) <= 15 and text.isascii() and text.isdecimal() else None


def _micros(text: str) -> int:
    """Seconds with decimals as microseconds; 0 where there is nothing to read."""
    try:
        seconds = Decimal(text) if len(text) <= 20 else Decimal(0)
    except InvalidOperation:
        return 0
    return int(seconds * 1_000_000) if seconds.is_finite() and 0 <= seconds < 10**7 else 0
