"""The gateway: a small ASGI application. Nothing of Django's middleware, no template, no SQL for a known key."""

import os
import time
from collections.abc import Awaitable
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

import structlog  # noqa: E402 - Django has to be set up before anything that imports models
from django.conf import settings  # noqa: E402

from core.request_id import new_request_id  # noqa: E402
from gateway.call import (  # noqa: E402
    Call,
    CallRefused,
    Exchange,
    Passed,
    admit,
    entitlement,
)
from gateway.caller import Callers, Refused  # noqa: E402
from gateway.descriptors import take_descriptors  # noqa: E402
from gateway.dialects import PREFIX as FORWARD_AUTH  # noqa: E402
from gateway.forward_auth import ForwardAuth  # noqa: E402
from gateway.headers import find_header, header_fault  # noqa: E402
from gateway.health import answer_health  # noqa: E402
from gateway.health_checks import HealthChecks, nobody  # noqa: E402
from gateway.lane import Lane  # noqa: E402
from gateway.language.answers import send_model_refusal, send_models  # noqa: E402
from gateway.language.exchange import carry_out  # noqa: E402
from gateway.owners import OwnersShelf, load_shelf  # noqa: E402
from gateway.pauses import keep_pauses_short  # noqa: E402
from gateway.plain_call import PlainCall  # noqa: E402
from gateway.plain_look import PlainLooks  # noqa: E402
from gateway.pools import Upstream  # noqa: E402
from gateway.problems import (  # noqa: E402
    BAD_PATH,
    BAD_REQUEST,
    BODY_TOO_LARGE,
    HEADER_FAULTS,
    INTERNAL_ERROR,
    NOT_FOUND,
    UPGRADE_REFUSED,
    method_not_allowed,
    send_refusal,
)
from gateway.proxy import Receive, Send, ask_upstream  # noqa: E402
from gateway.recorder import Recorder  # noqa: E402
from gateway.replays.answering import Replays, wants_one_answer  # noqa: E402
from gateway.routes import LanguageTerms, RouteEntry, has_dot_segments  # noqa: E402
from gateway.snapshot import Catalogue, Followed, in_thread  # noqa: E402
from gateway.upstream.answer import Answer  # noqa: E402
from gateway.upstream.pool import Pool  # noqa: E402
from gateway.upstream_guard import guarded_socket  # noqa: E402
from gateway.upstream_tls import upstream_tls  # noqa: E402
from gateway.verify import PATH as VERIFY  # noqa: E402
from gateway.verify import Verifier  # noqa: E402
from gateway.websocket.exchange import carry_out as carry_out_websocket  # noqa: E402
from gateway.websocket.handshake import UPGRADE_REQUIRED, is_websocket, websocket_key  # noqa: E402
from gateway.websocket.open_ones import OpenOnes  # noqa: E402
from keys.records import KeyRecord  # noqa: E402
from metering.answers import (  # noqa: E402
    METERING_UNAVAILABLE,
    Refusal,
)
from metering.checks import store_faults  # noqa: E402
from metering.engine import AsyncEngine, MeteringUnavailable  # noqa: E402
from metering.prepared import Passed as PlainPassed  # noqa: E402
from plans.models import Dialect  # noqa: E402

log = structlog.get_logger("gateway")
Scope = dict[str, Any]


class Gateway:
    """One per worker process; its parts live from ASGI's start-up to its shutdown."""

    def __init__(self) -> None:
        self.catalogue = Catalogue()
        self.callers = Callers()
        self.shelf = Followed(load_shelf, OwnersShelf())
        self.verifier = Verifier(self.catalogue, self.callers, self.shelf)
        self.forward_auth = ForwardAuth(self.callers, self.find_route)
        self.checks = HealthChecks(lambda: self.catalogue.table.servers, self._ask_whether_well)
        self.open_websockets = OpenOnes()
        self._recorder: Recorder | None = None
        self._session: Pool | None = None
        self.lane: Lane | None = None
        self._replays: Replays | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def start(self) -> None:
        take_descriptors()
        self._recorder = Recorder(AsyncEngine())
        self._replays = Replays(self.callers, self._recorder)
        self._session = Pool(
            guarded_socket(), tls=upstream_tls(), longest_answer_s=settings.UPSTREAM_LONGEST_ANSWER_SECONDS
        )
        await self.catalogue.start()
        await self.shelf.start()
        self._recorder.start()
        self._replays.start()
        self.checks.start()
        self.forward_auth.start(self._recorder)
        self.open_websockets.start(self._recorder.engine, self._is_on_sale)
        self.lane = Lane(
            self.catalogue,
            self.callers,
            self._recorder,
            self._session,
            find_route=self.find_route,
            looks=PlainLooks(self.verifier.looks, self._recorder.engine),
        )
        await in_thread(_tell_store_faults)

    async def stop(self) -> None:
        """Settle what is under way, then close."""
        await self.checks.stop()
        if self.lane is not None:
            self.lane.stop()
            self.lane = None
        await self.catalogue.stop()
        await self.shelf.stop()
        await self.forward_auth.stop()
        await self.open_websockets.stop()
        if self._replays is not None:
            await self._replays.stop()
        if self._recorder is not None:
            await self._recorder.stop()
            await self._recorder.engine.aclose()
        if self._session is not None:
            await self._session.close()

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
                keep_pauses_short()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw_path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        if raw_path in ("/livez", "/readyz"):
            await answer_health(raw_path, self.catalogue, self.recorder.engine, send)
            return
        request_id, started = new_request_id(), _Started(send)
        call = self._call(scope, receive, started, raw_path, request_id)
        await self._end(call, scope, started, raw_path, request_id)

    async def carry_on(
        self,
        plain: PlainCall,
        passed: PlainPassed,
        answer: Answer,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Pass an answer on that does not come whole."""
        place, started = plain.place, _Started(send)
        call = Call(
            scope, receive, started, plain.request_id, plain.ahead.key_hash, passed.call.record, place.route, place.path,
            plain.started_at,
        )  # fmt: skip
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in passed.rate_headers()]
        exchange = Exchange(call, Passed(passed.request, passed.answer, headers), self.recorder, self.session)
        exchange.body.size = plain.ahead.size
        raw_path = plain.ahead.url.partition(b"?")[0].decode("latin-1")
        await self._end(exchange.go_on(answer), scope, started, raw_path, plain.request_id)

    async def _end(
        self,
        call: Awaitable[Refusal | None],
        scope: Scope,
        started: "_Started",
        raw_path: str,
        request_id: str,
    ) -> None:
        """Carry a call out, and say why it was not."""
        try:
            refusal = await call
        except MeteringUnavailable:
            refusal = METERING_UNAVAILABLE
        except Exception:
            log.exception("call_failed", request_id=request_id)
            refusal = INTERNAL_ERROR
        if refusal is None or started.has_started:
            return
        log.info(
            "refused", request_id=request_id, code=refusal.code, status=refusal.status, method=scope["method"]
        )
        await self._refuse(started, refusal, scope["method"], raw_path, request_id)

    async def _refuse(
        self, send: Send, refusal: Refusal, method: str, raw_path: str, request_id: str
    ) -> None:
        """As a problem document, or as the SDKs of the route's dialect expect it."""
        match = self.catalogue.table.find(method, raw_path)
        terms = match.route.language if match is not None and match.route is not None else None
        if terms is None:
            await send_refusal(send, refusal, request_id=request_id, path=raw_path, method=method)
            return
        await send_model_refusal(
            send, refusal, dialect=terms.dialect, request_id=request_id, method=method, extra=[]
        )

    async def _call(
        self, scope: Scope, receive: Receive, send: Send, raw_path: str, request_id: str
    ) -> Refusal | None:
        """Carry a call out, or say why not."""
        headers, started_at = scope["headers"], time.monotonic()
        fault = header_fault(headers)
        if fault and not raw_path.startswith(FORWARD_AUTH):
            return HEADER_FAULTS[fault]
        if raw_path == VERIFY:
            return await self.verifier.answer(
                headers, scope["method"], receive, send, recorder=self.recorder, request_id=request_id
            )
        if raw_path.startswith(FORWARD_AUTH):
            return await self.forward_auth.answer(scope, send, raw_path, request_id)
        is_upgrade = find_header(headers, b"upgrade") is not None
        if is_upgrade and not is_websocket(scope):
            return UPGRADE_REFUSED
        client = scope.get("client")
        address = client[0] if client else ""
        try:
            if is_upgrade:
                key_hash, record = await self.callers.identify_key(websocket_key(headers), address)
            else:
                key_hash, record = await self.callers.identify(headers, address)
        except Refused as error:
            return error.refusal
        found = self.find_route(scope["method"], raw_path)
        if isinstance(found, Refusal):
            return found
        route, path = found
        if is_upgrade != bool(route.websocket):
            return UPGRADE_REFUSED if is_upgrade else UPGRADE_REQUIRED
        try:
            if entitlement(record, route) or _is_free(route):
                record = await self.callers.at_most_a_second_old(key_hash, record)
        except Refused as error:
            return error.refusal
        if refusal := entitlement(record, route) or _body_fault(headers, route):
            self._count(record, refusal)
            return refusal
        call = Call(scope, receive, send, request_id, key_hash, record, route, path, started_at)
        if is_upgrade:
            return await self._open_websocket(call)
        if route.replay_s and wants_one_answer(call):
            return await self.replays.answer(call, self._carry_out)
        return await self._carry_out(call)

    async def _carry_out(self, call: Call) -> Refusal | None:
        if call.route.language is not None:
            return await self._call_model(call, call.route.language)
        try:
            passed = await admit(call, self.callers, self.recorder)
        except CallRefused as error:
            self._count(call.record, error.refusal)
            return error.refusal
        await Exchange(call, passed, self.recorder, self.session).run()
        return None

    async def _call_model(self, call: Call, terms: LanguageTerms) -> Refusal | None:
        """A call to a language model; the list of models is ours."""
        if terms.dialect == Dialect.MODELS:
            await send_models(call.send, self.catalogue.table.models, call.path, request_id=call.request_id)
            return None
        refusal = await carry_out(
            call, terms, self.catalogue.table.models, callers=self.callers, recorder=self.recorder, session=self.session
        )  # fmt: skip
        if refusal is not None:
            self._count(call.record, refusal)
        return refusal

    async def _open_websocket(self, call: Call) -> Refusal | None:
        refusal = await carry_out_websocket(
            call, callers=self.callers, recorder=self.recorder, session=self.session, open_ones=self.open_websockets
        )  # fmt: skip
        if refusal is not None:
            self._count(call.record, refusal)
        return refusal

    def _is_on_sale(self, route: str) -> bool:
        """By its public id; before the first look at the catalogue everything is."""
        return not self.catalogue.is_loaded or self.catalogue.table.find_by_id(route) is not None

    def find_route(self, method: str, raw_path: str) -> tuple[RouteEntry, str] | Refusal:
        """The route and the path below its product, or 400, 404 or 405."""
        if has_dot_segments(raw_path):
            return BAD_PATH
        match = self.catalogue.table.find(method, raw_path)
        if match is None:
            return NOT_FOUND if self.catalogue.is_loaded else METERING_UNAVAILABLE
        if match.route is None:
            return method_not_allowed(match.allowed)
        return match.route, match.path

    async def _ask_whether_well(
        self, upstream: Upstream, path: str, headers: list[tuple[str, str]], seconds: float
    ) -> Answer:
        return await ask_upstream(
            self.session, method="GET", url=upstream.base_url + path, headers=headers, body=nobody(), has_body=False,
            connect_timeout_s=min(seconds, upstream.connect_timeout_s), timeout_s=seconds,
        )  # fmt: skip

    @property
    def recorder(self) -> Recorder:
        if self._recorder is None:
            raise RuntimeError("the gateway has not started")
        return self._recorder

    @property
    def replays(self) -> Replays:
        if self._replays is None:
            raise RuntimeError("the gateway has not started")
        return self._replays

    @property
    def session(self) -> Pool:
        if self._session is None:
            raise RuntimeError("the gateway has not started")
        return self._session

    def _count(self, record: KeyRecord, refusal: Refusal) -> None:
        if refusal.counted:
            self.recorder.refuse(
                record.shard, record.organization_id, record.mode, record.key_id, refusal.code
            )


class _Started:
    """Remembers whether an answer has begun: after that nothing else can be said."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_started = False

    async def __call__(self, message: dict[str, Any]) -> None:
        self.has_started = True
        await self._send(message)


def _is_free(route: RouteEntry) -> bool:
    """The list of models is not admitted by the script, which would know of a revoked key."""
    return route.language is not None and route.language.dialect == Dialect.MODELS


def _tell_store_faults() -> None:
    for fault in store_faults():
        log.warning("usage_store_may_lose", fault=fault.message, hint=fault.hint)


def _body_fault(headers: Any, route: RouteEntry) -> Refusal | None:
    """413 before anything is counted, where the length is announced."""
    length = find_header(headers, b"content-length")
    if length is None:
        return None
    if not length.isdigit():
        return BAD_REQUEST
    return BODY_TOO_LARGE if int(length) > route.body_limit else None


app = Gateway()
