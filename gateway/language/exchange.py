"""A call to a language model, from its body to its settling.

Its bound is reserved before it goes out; no frame of a stream leaves before its tokens are reserved, and the last one leaves
after settling. What is billed is the upstream's own count; where there is none, an estimate that says so.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

from core.clock import from_micros
from core.ids import event_id
from gateway.call import Call, CallRefused, Passed, admit, forwarded, tried_again
from gateway.caller import Callers
from gateway.headers import answer_headers, upstream_headers, withheld
from gateway.language.answers import (
    GATEWAY_STOPPED,
    MODEL_NOT_FOUND,
    MODEL_WITHOUT_PRICE,
    NOT_RESERVED,
    TOO_LARGE_FOR_LIMIT,
    bad_model_request,
    error_frame,
    sdk_headers,
    send_model_refusal,
)
from gateway.language.asked import IMAGE_TOKENS, Asked, BadModelRequest, read_request
from gateway.language.event_stream import text_of_answer
from gateway.language.passing import FramePasser, Left, read_whole
from gateway.language.prompt import prompt_of
from gateway.language.sizing import Bound, NoPrice, Sizing
from gateway.language.tokenizer import BYTES, BYTES_A_TOKEN, Estimate, estimate
from gateway.language.tokens import Tokens, read_usage
from gateway.pool_call import PoolCall
from gateway.pools import Server, Upstream
from gateway.problems import (
    BODY_TOO_LARGE,
    CLIENT_GONE_STATUS,
    NOT_RECORDED,
    UPSTREAM_TIMEOUT,
    UPSTREAM_UNAVAILABLE,
)
from gateway.proxy import (
    NO_BODY,
    Answer,
    Body,
    BodyTooLarge,
    ClientGone,
    UpstreamCut,
    UpstreamTimeout,
    UpstreamUnavailable,
    ask_upstream,
)
from gateway.recorder import Recorder
from gateway.routes import LanguageTerms, ModelEntry
from gateway.upstream.pool import Pool
from metering.admission import Outcome, billing_reason, call_event
from metering.answers import Headers, Refusal, limited
from metering.calls import Refused, Settlement
from metering.engine import MeteringUnavailable
from plans.models import OnLeaving
from plans.token_prices import NO_PICTURES, Pictures

SLICE = 1_024  # output tokens that are reserved at a time where the caller sets no limit
LAST_FRAME_SECONDS = 1.0  # of a stream that a shutdown ends


async def carry_out(
    call: Call, terms: LanguageTerms, models: Mapping[str, ModelEntry], *, callers: Callers, recorder: Recorder,
    session: Pool,
) -> Refusal | None:  # fmt: skip
    """Carry a call to a language model out, or say why not."""
    body = Body.of(call.scope, call.receive, call.route.body_limit)
    try:
        content = await body.read()
    except BodyTooLarge:
        return BODY_TOO_LARGE
    except ClientGone:
        return None
    try:
        asked = read_request(terms.dialect, content)
    except BadModelRequest as error:
        return bad_model_request(str(error))
    model = models.get(asked.model)
    if model is None:
        return MODEL_NOT_FOUND
    try:
        target = call.route.target
        sizing = Sizing(terms, model, target.quantity, datetime.now(UTC), target.route_id)
    except NoPrice:
        return MODEL_WITHOUT_PRICE
    bound = first_bound(asked, model)
    if sizing.never_fits(call.record, bound):
        return TOO_LARGE_FOR_LIMIT
    body.content = content
    try:
        passed = await admit(
            call, callers, recorder, lambda record, plain: sizing.reserve(record, plain, bound)
        )
        await ModelExchange(call, asked, passed, sizing, bound, body, recorder, session).run()
    except CallRefused as error:
        return error.refusal
    finally:
        body.close()
    return None


def first_bound(asked: Asked, model: ModelEntry) -> Bound:
    """What is reserved before the call goes out: of an answer without a limit that is streamed, its first slice."""
    if asked.output_limit is not None:
        output = asked.output_limit
    else:
        most = model.max_output_tokens * asked.choices
        output = min(SLICE, most) if asked.is_stream else most
    return Bound(asked.input_bound(model.bytes_per_token), output, asked.pictures)


@dataclass(frozen=True, slots=True)
class Used:
    """The tokens of a call. `estimated_by`: the tokenizer, or `bytes`; '' where the upstream counted them."""

    tokens: Tokens
    estimated_by: str = ""
    pictures: Pictures = NO_PICTURES


_NO_CALL: dict[str, Any] = {"status": None, "duration_us": None, "bytes_in": None, "bytes_out": None}


class ModelExchange:
    """The part of a call after its admission."""

    def __init__(
        self, call: Call, asked: Asked, passed: Passed, sizing: Sizing, bound: Bound, body: Body, recorder: Recorder,
        session: Pool,
    ) -> None:  # fmt: skip
        self.call, self.asked, self.passed, self.bound = call, asked, passed, bound
        self.body, self.recorder, self.session = body, recorder, session
        self.at_us = passed.answer.occurred_at_us
        self.sizing = replace(sizing, at=from_micros(self.at_us))  # priced at the moment of the admission
        self.reservation = passed.request.reserved_at(self.at_us)
        self.bytes_out = 0
        self.upstream_name = asked.model
        self.credential: tuple[str, str] | None = None  # of the server that was asked
        self.pooled: PoolCall | None = None  # where there are several servers

    @property
    def on_leaving(self) -> str:
        return self.sizing.terms.on_leaving

    async def run(self) -> None:
        """Ask, pass the answer on, settle before its end leaves; what breaks before that expires unbilled."""
        self.recorder.hold(self.reservation)
        try:
            await self._run()
        except BaseException:  # a shutdown, or a fault of ours: not billed, but told
            await self._settle(500, "gateway_error")
            raise
        finally:
            self.recorder.let_go(self.reservation)
            if self.pooled is not None:
                self.pooled.release()

    async def _run(self) -> None:
        try:
            answer = await self._ask()
        except UpstreamUnavailable:
            await self._fail(UPSTREAM_UNAVAILABLE, "upstream_unavailable")
            return
        except UpstreamTimeout:
            await self._fail(UPSTREAM_TIMEOUT, "upstream_timeout")
            return
        except ClientGone:
            await self._settle(CLIENT_GONE_STATUS, "client_gone")
            return
        try:
            if answer.status in _OWNERS_TROUBLE:
                await self._fail(UPSTREAM_UNAVAILABLE, "upstream_error")
            elif answer.is_event_stream and answer.status < 400:
                await self._pass_stream(answer)
            else:
                await self._pass_whole(answer)
        finally:
            answer.close()

    async def _ask(self) -> Answer:
        """Of the model's server, or of one of several; without any, of the environment's or the product's."""
        model, terms, route = self.sizing.model, self.sizing.terms, self.call.route
        pool = model.pool if model.upstreams or terms.upstream else route.pool
        if pool is None:
            other = (terms.upstream or route.upstream, self.asked.model)
            return await self._ask_one(*(model.upstreams[0] if model.upstreams else other))
        self.pooled = PoolCall(
            pool, method=self.call.method, body=self.body, has_body=True, timeout_s=route.timeout_s
        )
        return await self.pooled.ask(self._ask_server)

    async def _ask_server(self, server: Server) -> Answer:
        return await self._ask_one(server.upstream, server.known_as or self.asked.model)

    async def _ask_one(self, upstream: Upstream, name: str) -> Answer:
        call, self.upstream_name, self.credential = self.call, name, upstream.credential
        self.body.content = self.asked.for_upstream(name)
        headers = [
            (n, v)
            for n, v in call.scope["headers"]
            if n not in (b"content-length", b"accept-encoding", b"transfer-encoding")
        ]
        sent = upstream_headers(
            headers, call.record, request_id=call.request_id, forwarded=forwarded(call.scope), credential=upstream.credential
        )  # fmt: skip
        sent += [("Accept-Encoding", "identity"), ("Content-Length", str(len(self.body.content)))]
        query = call.scope["query_string"].decode("latin-1")
        return await ask_upstream(
            self.session, method=call.method, url=upstream.base_url + call.path + (f"?{query}" if query else ""),
            headers=sent, body=self.body, has_body=True, connect_timeout_s=upstream.connect_timeout_s,
            timeout_s=call.route.timeout_s, stops_with_client=self.on_leaving != OnLeaving.DRAIN,
        )  # fmt: skip

    # --- answers that come whole ---------------------------------------------------------------------------------

    async def _pass_whole(self, answer: Answer) -> None:
        if self.on_leaving != OnLeaving.DRAIN:
            self.body.on_leaving(answer.close)
        try:
            content = await read_whole(answer)
        except (UpstreamCut, UpstreamTimeout) as error:
            if self.body.is_gone:
                await self._settle(CLIENT_GONE_STATUS, "client_gone")
            else:
                is_slow = isinstance(error, UpstreamTimeout)
                refusal = UPSTREAM_TIMEOUT if is_slow else UPSTREAM_UNAVAILABLE
                await self._fail(refusal, "upstream_timeout" if is_slow else "upstream_error")
            return
        self.bytes_out = len(content)
        reason = billing_reason(answer.status, bill_client_errors=self.call.route.bill_client_errors)
        if self.body.is_gone and self.on_leaving != OnLeaving.DRAIN:
            reason = "client_gone"  # nothing of it was delivered
        value = None if reason else _json(content)
        if value is None:
            reason = reason or "upstream_error"  # of what cannot be read nobody knows what it is worth
        text = text_of_answer(value or {})
        used = await self._used(read_usage(value.get("usage")) if value else None, text, len(text))
        used = replace(used, pictures=drawn_pictures(self.asked, value or {}))
        outcome = Left.DRAINED.value if self.body.is_gone and not reason else ""
        if not await self._settle(answer.status, reason, used, outcome=outcome):
            await self._refuse(NOT_RECORDED)
            return
        await self._begin(answer, self._units_header(reason, used))
        await self.call.send({"type": "http.response.body", "body": content})

    # --- streams -------------------------------------------------------------------------------------------------

    async def _pass_stream(self, answer: Answer) -> None:
        await self._begin(answer, [])
        passer = FramePasser(
            self.call.send,
            self.body,
            self._reserve,
            hides_usage=not self.asked.wants_usage,
            on_leaving=self.on_leaving,
            is_kept=self.call.keeper is not None,
        )
        left = await passer.run(answer, still_held=lambda: self.recorder.holds(self.reservation))
        ending = self._end_stream(answer, passer, left)
        await (self.recorder.see_through(ending) if left is Left.STOPPED else ending)

    async def _end_stream(self, answer: Answer, passer: FramePasser, left: Left) -> None:
        """Settle, then send the end, or say in the dialect why there is none."""
        self.bytes_out = passer.bytes_out
        stream = passer.stream
        # Where we end a stream the upstream may have counted more than was delivered.
        is_counted = stream.is_counted and left not in (Left.DELIVERED, Left.REFUSED, Left.STOPPED)
        used = await self._used(stream.tokens, passer.text, passer.text_bytes, is_counted=is_counted)
        used = replace(used, pictures=self.asked.drawn({}, stream.pictures))
        outcome = "" if left is Left.WHOLE else left.value
        reason = left.reason
        if left is Left.STOPPED and self.on_leaving == OnLeaving.FREE:
            reason = "gateway_error"
        is_settled = await self._settle(answer.status, reason, used, outcome=outcome)
        if left in (Left.REFUSED, Left.STOPPED) and is_settled:
            refusal = (passer.refusal or TOO_LARGE_FOR_LIMIT) if left is Left.REFUSED else GATEWAY_STOPPED
            frame = error_frame(self.asked.dialect, refusal, self.call.request_id)
            with suppress(TimeoutError):  # a client that does not read is not waited for
                async with asyncio.timeout(LAST_FRAME_SECONDS):
                    await self.call.send({"type": "http.response.body", "body": frame})
        elif is_settled and (
            left in (Left.WHOLE, Left.FAILED) or (left is Left.DRAINED and self.call.keeper)
        ):
            await passer.finish()
        # otherwise the server below us cuts the connection: the answer is not complete

    async def _reserve(self, text_bytes: int, frames: int) -> Refusal | None:
        """Make sure that so much text is reserved before it is sent; why not, where it cannot be."""
        most = self.sizing.model.max_output_tokens * self.asked.choices
        if self.asked.output_limit is not None or self.bound.output >= most:
            return None
        needed = _tokens_of(text_bytes, frames)
        if needed * 10 <= self.bound.output * 8:
            return None
        slices = max(1, -(-(needed * 10 // 8 - self.bound.output) // SLICE))
        wider = replace(self.bound, output=min(most, self.bound.output + slices * SLICE))
        more = self.sizing.more(self.call.record, self.passed.request, self.bound, wider)
        try:
            answer = await self.recorder.engine.extend(more, self.reservation, admitted_at_us=self.at_us)
        except MeteringUnavailable:
            return NOT_RESERVED if needed > self.bound.output else None
        if not answer.is_reserved:
            if needed <= self.bound.output:
                return None  # what is sent is reserved still; the next frame asks again
            if not answer.code:  # the reservation itself is gone
                return NOT_RESERVED
            return limited(Refused(answer.code, answer.at_us, 0, 0, (), None))
        self.reservation = self.reservation.with_more((*more.charges, *more.daily))
        self.bound = wider
        self.recorder.hold(self.reservation)
        return None

    # --- the end -------------------------------------------------------------------------------------------------

    async def _settle(
        self,
        status: int,
        reason: str,
        used: "Used | None" = None,
        *,
        outcome: str = "",
    ) -> bool:
        """Write the call with its tokens; nothing where a reason says so."""
        if self.pooled is not None:
            self.pooled.end(status, reason)
        if reason or used is None:
            used = Used(Tokens())
        true = used.tokens
        quantities = (
            [Decimal(0) for _ in self.sizing.terms.meters]
            if reason
            else self.sizing.quantities(true, used.pictures)
        )
        properties = self._properties(used, outcome)
        ended = Outcome(status, reason, self.call.duration_us(), self.body.size, self.bytes_out)
        events = [self._event(ended, quantities[0], properties)]
        for number, (meter, quantity) in enumerate(
            zip(self.sizing.terms.meters[1:], quantities[1:], strict=True), 1
        ):
            event = self._event(
                ended, quantity, {"model": self.asked.model}, meter_id=meter.meter_id, number=number
            )
            events.append(b"" if reason else event)
        settlement = Settlement.of_all(
            self.passed.request, self.reservation, self.sizing.settle(self.passed.request, quantities, events, true.total),
            at_us=self.at_us, weights=self.sizing.corrections(self.call.record, self.bound, true, quantities),
        )  # fmt: skip
        expired = replace(ended, reason="expired")
        is_recorded = await self.recorder.settle(
            settlement, lambda: self._event(expired, Decimal(0), properties)
        )
        if self.call.keeper is not None:
            is_whole = outcome in ("", Left.DRAINED.value)
            self.call.keeper.settled(
                self.passed.answer.event_id, reason=reason, is_recorded=is_recorded, is_whole=is_whole
            )
        return is_recorded

    def _properties(self, used: Used, outcome: str) -> dict[str, Any]:
        tokens, pictures, estimated_by = used.tokens, used.pictures, used.estimated_by
        row = self.sizing.price_row(tokens)
        return {
            "model": self.asked.model,
            **({"upstream_model": self.upstream_name} if self.upstream_name != self.asked.model else {}),
            **tokens.as_properties(),
            **({"pictures": pictures.count} if pictures.count else {}),
            **({"picture_quality": pictures.quality} if pictures.count and pictures.quality else {}),
            **({"picture_size": pictures.size} if pictures.count and pictures.size else {}),
            **({"price": row.row_id} if row is not None else {}),
            **({"usage_estimated": True, "estimated_by": estimated_by} if estimated_by else {}),
            **({"outcome": outcome} if outcome else {}),
            **tried_again(self.pooled),
        }

    def _event(
        self, ended: Outcome, quantity: Decimal, properties: dict[str, Any], *, meter_id: int | None = None, number: int = 0
    ) -> bytes:  # fmt: skip
        """A row of the call. Those of further meters have ids of their own, made of the admission's as well, and no status,
        duration or size: the call is counted and looked at once."""
        event = call_event(
            self.call.record, self.passed.request, self.call.route.target, ended,
            admitted=self.passed.answer, door="gateway", request_id=self.call.request_id,
        )  # fmt: skip
        return replace(
            event,
            id=event_id(self.at_us, self.passed.request.nonce ^ number),
            meter_id=meter_id or event.meter_id,
            quantity=Decimal(0) if ended.reason else quantity,
            properties=properties,
            **(_NO_CALL if number else {}),
        ).to_json()

    async def _used(
        self, counted: Tokens | None, text: bytes | bytearray, text_bytes: int, *, is_counted: bool = True
    ) -> Used:
        """What the upstream counted, or as much of it as it told with an estimate of the rest; never more than was reserved.
        `text` is the beginning of the output, which has `text_bytes` in all."""
        if counted is not None and is_counted:
            return Used(counted)
        told = text.decode(errors="replace")
        output = await estimate(self.upstream_name, [told])
        tokens = output.tokens if text_bytes <= len(text) else -(-output.tokens * text_bytes // len(text))
        tokens = min(self.bound.output, tokens)
        if counted is not None:
            return Used(replace(counted, output=tokens, reasoning=0, audio_output=0), output.by)
        prompt = await self._prompt()
        return Used(Tokens(input=min(self.bound.input, prompt.tokens), output=tokens), prompt.by)

    async def _prompt(self) -> Estimate:
        """An estimate of the prompt's tokens: its text with the marks of its messages, pictures at their bound."""
        prompt = prompt_of(self.asked.body)
        found = await estimate(self.upstream_name, prompt.texts)
        if found.by == BYTES:
            return replace(found, tokens=self.asked.input_bound(BYTES_A_TOKEN))
        return replace(found, tokens=found.tokens + prompt.tokens + self.asked.images * IMAGE_TOKENS)

    def _units_header(self, reason: str, used: Used) -> Headers:
        quantity = Decimal(0) if reason else self.sizing.quantities(used.tokens, used.pictures)[0]
        return [("Farebox-Units", f"{quantity.normalize():f}")]

    async def _begin(self, answer: Answer, more: Headers) -> None:
        """The answer's head, without a length: of a stream it would be another one."""
        passed, windows = self.passed, self.passed.answer.windows
        ours = [
            *passed.headers, *sdk_headers(self.asked.dialect, windows, self.at_us), *more,
            ("X-Request-Id", self.call.request_id), ("request-id", self.call.request_id),
        ]  # fmt: skip
        theirs = [
            (n, v) for n, v in withheld(answer.headers, self.credential) if n.lower() not in _NOT_PASSED_ON
        ]
        headers = answer_headers(
            theirs, ours, may_have_length=not answer.is_event_stream and answer.status not in NO_BODY
        )
        await self.call.send({"type": "http.response.start", "status": answer.status, "headers": headers})

    async def _fail(self, refusal: Refusal, reason: str) -> None:
        await self._settle(refusal.status, reason)
        await self._refuse(refusal)

    async def _refuse(self, refusal: Refusal) -> None:
        if not self.body.is_gone:
            await send_model_refusal(
                self.call.send, refusal, dialect=self.asked.dialect, request_id=self.call.request_id,
                method=self.call.method,
                extra=[*self.passed.headers, *sdk_headers(self.asked.dialect, self.passed.answer.windows, self.at_us)],
            )  # fmt: skip


# The upstream refuses the owner, not the caller, and its text may tell of the owner's key.
_OWNERS_TROUBLE = (401, 402)
# The upstream's account is not the customer's: its limits and ids say nothing to them.
_NOT_PASSED_ON = frozenset(
    [b"request-id", b"openai-organization", b"openai-project"]
    + [
        f"{prefix}-{what}-{kind}".encode()
        for prefix in ("x-ratelimit",)
        for what in ("limit", "remaining", "reset")
        for kind in ("requests", "tokens")
    ]
    + [
        f"anthropic-ratelimit-{kind}-{what}".encode()
        for kind in ("requests", "tokens", "input-tokens", "output-tokens")
        for what in ("limit", "remaining", "reset")
    ]
)


def drawn_pictures(asked: Asked, answer: dict[str, Any]) -> Pictures:
    """The pictures in an answer that came whole."""
    data = answer.get("data")
    return asked.drawn(answer, len(data) if isinstance(data, list) else 0)


def _json(content: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _tokens_of(text_bytes: int, frames: int) -> int:
    return max(frames, -(-text_bytes // BYTES_A_TOKEN))
